"""Shows a run while it goes on: as a live panel, as plain lines, or not at all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Protocol

from carerl.metrics.table import clock, compact_number, format_number, shown_in
from carerl.text.printable import printable
from carerl.tracking.pace import Pace


class Display(Protocol):
    """Shows a run. Every method returns at once and never raises for what it is given.

    ``close`` may be called again."""

    def stage(self, name: str) -> None:
        """Shows what is being done now, e.g. ``generate``. It is called many times a step."""

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Shows the progress of a job of its own, e.g. building the base model; ``done == total`` ends it."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows a finished step with its metrics."""

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def warning(self, text: str) -> None:
        """Shows what must be seen, e.g. that something is lost. A quiet display shows it too."""
        ...

    def close(self) -> None: ...


def make_display(
    mode: str, total_steps: int, title: str, *, file: IO[str] | None = None, interval: float = 10.0
) -> Display:
    """Makes the display of a mode. ``auto`` is live on a terminal and plain elsewhere (CI included). ``interval``:
    seconds between lines. Raises ValueError for another mode.

    >>> make_display("loud", 10, "x")
    Traceback (most recent call last):
    ValueError: tracking.display='loud': use auto, live, plain or quiet
    """
    if mode not in MODES:
        raise ValueError(f"tracking.display={mode!r}: use {', '.join(MODES[:-1])} or {MODES[-1]}")
    if mode == "auto":
        mode = "live" if _is_terminal(file or sys.stdout) else "plain"
    return DISPLAYS[mode](total_steps, title, file, interval)


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


class QuietDisplay:
    """Shows nothing but warnings."""

    def stage(self, name: str) -> None: ...

    def progress(self, done: int, total: int, text: str = "") -> None: ...

    def step(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def warning(self, text: str) -> None:
        self.message(text)
        print(printable(f"warning: {text}"), file=sys.stderr, flush=True)

    def close(self) -> None: ...


class PlainDisplay:
    """Writes one readable line at the first and last step and every ``interval`` seconds between.

    A stage is named the first time it is entered, so that a log says what a slow start is doing.
    """

    def __init__(
        self,
        total_steps: int,
        title: str,
        *,
        file: IO[str] | None = None,
        interval: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self._file = file or sys.stdout
        self._interval = interval
        self._now = now
        self._pace = Pace(total_steps, now)
        self._stages: set[str] = set()
        self._last_line = float("-inf")
        self._last_progress = float("-inf")
        self._write(title)

    def stage(self, name: str) -> None:
        if name not in self._stages:
            self._stages.add(name)
            self._write(f"stage: {name}")

    def progress(self, done: int, total: int, text: str = "") -> None:
        if done >= total or self._now() - self._last_progress >= self._interval:
            self._last_progress = self._now() if done < total else float("-inf")
            share = f"{100 * done / total:3.0f} %" if total else ""
            self._write(f"{text or 'progress'}  {done}/{total}  {share}".rstrip())

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._pace.step(step)
        if step < self.total_steps and self._now() - self._last_line < self._interval:
            return
        self._last_line = self._now()
        parts = [f"step {step:>{len(str(self.total_steps))}}/{self.total_steps}"]
        for metric in shown_in("step"):
            if metric.name in metrics:
                parts.append(f"{metric.label_in('step')} {compact_number(metrics[metric.name])}")
        if "time/step" in metrics:
            parts.append(f"{metrics['time/step']:.2f} s/step")
        if step < self.total_steps:
            parts.append(f"left {clock(self._pace.left())}")
        self._write(" · ".join(parts))

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self._write(f"evaluation at step {step}: {evaluation_text(metrics)}")

    def message(self, text: str) -> None:
        self._write(text)

    def warning(self, text: str) -> None:
        self._write(f"warning: {text}")

    def close(self) -> None:
        self._file.flush()

    def _write(self, text: str) -> None:
        print(f"[{clock(self._pace.elapsed())}] {printable(text)}", file=self._file, flush=True)


def evaluation_text(metrics: Mapping[str, float]) -> str:
    """Returns an evaluation's headline metrics in one line."""
    shown = [metric for metric in shown_in("headline") if metric.name in metrics]
    return " · ".join(f"{m.short} {format_number(metrics[m.name], m.digits)}" for m in shown) or "no metrics"


def _live(total_steps: int, title: str, file: IO[str] | None, interval: float) -> Display:
    from carerl.tracking.live import LiveDisplay

    return LiveDisplay(total_steps, title, file=file)


def _plain(total_steps: int, title: str, file: IO[str] | None, interval: float) -> Display:
    return PlainDisplay(total_steps, title, file=file, interval=interval)


def _quiet(total_steps: int, title: str, file: IO[str] | None, interval: float) -> Display:
    return QuietDisplay()


DISPLAYS: dict[str, Callable[[int, str, IO[str] | None, float], Display]] = {
    "live": _live,
    "plain": _plain,
    "quiet": _quiet,
}
MODES = ("auto", *DISPLAYS)
