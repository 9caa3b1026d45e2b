"""The records of a profile: what the recorder of a process hands over, and the report reads."""

from __future__ import annotations

from dataclasses import dataclass, field

PHASE, CALL, WAIT, COPY = "phase", "call", "wait", "copy"
"""Kinds of spans: a phase of the driver's loop, a call of an actor, a wait for a value, a copy of one."""

Stack = tuple[int, ...]
"""Numbers of functions in :attr:`Recording.functions`, outermost first."""


@dataclass(frozen=True)
class Span:
    """A named piece of time from ``begin`` to ``end``. For ``cpu`` of it the thread was on a core. Nanoseconds."""

    name: str
    kind: str
    begin: int
    end: int
    cpu: int

    @property
    def wall(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Op:
    """Sums up one operation of torch over a recording. Times are microseconds."""

    name: str
    calls: int
    own: float  # on the CPU, without the operations that it called
    total: float  # on the CPU, with them
    gpu: float = 0.0  # on the GPU, without them


@dataclass
class Recording:
    """Everything that one process recorded. Times are nanoseconds since the epoch, but for those of ``ops``."""

    pid: int
    begin: int = 0
    end: int = 0
    process: str = ""
    host: str = ""
    worker: str = ""  # Ray's name of the process
    spans: list[Span] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    samples: list[tuple[int, Stack]] = field(default_factory=list)  # when, and which functions were running
    ops: list[Op] = field(default_factory=list)
    op_events: list[tuple[str, int, int]] = field(default_factory=list)  # name, begin, end
