"""Holds what a loop needs: the run's objects, and the clock of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from carerl.actors.crew import Crew
from carerl.actors.handles.base import Writing
from carerl.backends import recorder
from carerl.backends.hashed import Written
from carerl.config.schema import RunConfig
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.first_steps import FirstSteps
from carerl.controller.profiling import Profiler
from carerl.runs.directory import RunDirectory
from carerl.runs.loop_state import LoopState
from carerl.tasks import Task
from carerl.tracking.display import Display
from carerl.tracking.trackers import Trackers

CrewT = TypeVar("CrewT", bound=Crew)


@dataclass
class Unfinished:
    """Holds a checkpoint that is being written beside training. ``what``: its name in words. ``commit`` makes it
    appear, given the files that were written, by their paths. ``kept`` follows once it is there."""

    what: str
    writing: Writing
    commit: Callable[[Mapping[str, Written]], None]
    kept: Callable[[], None]


@dataclass
class Context(Generic[CrewT]):
    """Holds everything that a loop needs. ``model_dir``: the weights that the run starts from. ``step``: the last step
    done. ``loop``: the state after it. ``unfinished``: at most one, as each has a copy in the learner's main memory.
    ``twins``: the directories of runs whose evaluation at step 0 may be this run's too."""

    config: RunConfig
    task: Task
    tokenizer: Any
    crew: CrewT
    run: RunDirectory
    trackers: Trackers
    display: Display
    stop: StopFlag
    model_dir: str
    loop: LoopState
    profiler: Profiler
    step: int = 0
    first_steps: FirstSteps = field(default_factory=FirstSteps)
    unfinished: Unfinished | None = None
    twins: Sequence[Path] = ()


@dataclass
class Clock:
    """Counts the seconds of each phase of a step, for ``time/*`` metrics, and shows the phase on the display."""

    display: Display
    seconds: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)
    ended: Callable[[], None] = field(default_factory=lambda: recorder.begin("step"))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase. One that is entered again adds to its seconds."""
        self.display.stage(name)
        begin = time.perf_counter()
        try:
            with recorder.span(name):
                yield
        finally:
            key = f"time/{name}"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - begin

    def metrics(self, tokens: int) -> dict[str, float]:
        """Ends the step. Returns the seconds of its phases and of the whole step, and ``tokens`` per second."""
        step = time.perf_counter() - self.start
        self.ended()
        return {**self.seconds, "time/step": step, "time/tokens_per_second": tokens / step}
