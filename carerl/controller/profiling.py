"""``profile=true``: records where the time of some steps goes, in driver and actors. It changes no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carerl.actors import profiling
from carerl.actors.crew import Crew
from carerl.backends import recorder
from carerl.report.profile import Window, text, write_profile


@dataclass(frozen=True)
class Part:
    """Names steps to record, counted from where the run starts or is resumed. ``ops``: torch's operations, instead of
    stacks."""

    first: int
    last: int
    ops: bool


STEP = "step"  # the span that a loop puts around each step, or around the steps of one call


class Profiler:
    """Records parts of a run, counted from ``start``. Does nothing unless ``on``."""

    def __init__(self, crew: Crew, on: bool, parts: Sequence[Part] = (), start: int = 0) -> None:
        self._crew, self._on = crew, on
        self._parts = [Part(start + p.first, start + p.last, p.ops) for p in parts] if on else []
        self._windows: list[Window] = []
        self._open: Part | None = None

    def reach(self, step: int) -> None:
        """Begins and ends recordings that begin and end before ``step``. A loop calls it before the step."""
        for part in self._parts:
            if step == part.last + 1:
                self._end_part(part.last)
            if step == part.first:
                self._begin(part.ops)
                self._open = part

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Records what is done inside, as one unit."""
        if not self._on:
            yield
            return
        self._begin(ops=False)
        with recorder.span(name):
            yield
        self._end(name, 1, name)

    def finish(self, step: int, directory: Path, say: Callable[[str], None]) -> None:
        """Writes and shows what was recorded. ``step``: the last one done."""
        if not self._on:
            return
        self._end_part(step)
        page = write_profile(directory, self._windows)
        say("\n" + text(self._windows))
        if self._parts and step < self._parts[-1].last:
            say(f"profile: more is recorded of a run with {self._parts[-1].last} steps")
        say(f"profile: {page}, and profile.json beside it for ui.perfetto.dev or chrome://tracing")

    def _begin(self, ops: bool) -> None:
        """Begins to record in all actors and here."""
        self._crew.record(ops)
        profiling.record()

    def _end_part(self, last: int) -> None:
        """Ends the open part, if there is one. ``last``: its last step done."""
        part, self._open = self._open, None
        if part is None:
            return
        name = f"steps {part.first} to {last}" if last > part.first else f"step {part.first}"
        self._end(f"{name}: torch's operations" if part.ops else name, max(1, last - part.first + 1), STEP)

    def _end(self, name: str, units: int, whole: str) -> None:
        """Ends the recordings and keeps them under a name. ``whole``: the span that each of ``units`` has."""
        own = profiling.recorded()
        own.process = "driver"
        window = Window(name, units, whole, [own, *self._crew.recorded()])
        if missing := profiling.add_copies(window.recordings):
            window.notes.append(missing)
        if len({recording.host for recording in window.recordings}) > 1:
            window.notes.append("the processes ran on several machines; their clocks are compared as they are")
        self._windows.append(window)
