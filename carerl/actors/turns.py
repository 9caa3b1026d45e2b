"""Says whose turn it is on a GPU that an engine and a rank of the learner share.

An engine that shares a GPU is in one of three phases, and goes through them in a circle:

=========== ============================================ ============================== ============================
phase       what of the engine is on the GPU             what may be called             what leads to the next phase
=========== ============================================ ============================== ============================
asleep      nothing but what CUDA itself keeps           the learner's ``update``       ``wake_weights``
weights     room for weights, no cache                   ``sync``                       ``wake_cache``, after a sync
awake       all of it                                    whatever generates             ``sleep``
=========== ============================================ ============================== ============================

Passes of the learner without a gradient are allowed in every phase. The driver and each actor keep a phase of their
own and refuse what is not due, so that a mistake in a loop ends in words and not in a GPU out of memory. Engines with
GPUs of their own are always awake, and nothing is refused. On the CPU the rules are the same: only what sleeping frees
is less.
"""

from __future__ import annotations

from dataclasses import dataclass

from carerl.types import RunError

ASLEEP, WEIGHTS, AWAKE = "asleep", "weights", "awake"
PHASES = (ASLEEP, WEIGHTS, AWAKE)

# for each call: the phases in which it may be made, and the phase that it leads to, if it is another one
ALLOWED: dict[str, tuple[tuple[str, ...], str]] = {
    "generate": ((AWAKE,), ""),
    "sync": ((WEIGHTS,), ""),
    "update": ((ASLEEP,), ""),
    "sleep": (PHASES, ASLEEP),
    "wake_weights": ((ASLEEP,), WEIGHTS),
    "wake_cache": ((WEIGHTS,), AWAKE),
}
REMEDY = {
    ASLEEP: "the engine is asleep: call wake_weights, then sync, then wake_cache",
    WEIGHTS: "the engine has room for weights, and no cache: call sync, then wake_cache",
    AWAKE: "the engine is awake, on a GPU that it shares with the learner: call sleep",
}


class WrongTurn(RunError):
    """Refuses a call on a shared GPU while it is the other's turn."""


@dataclass
class Turns:
    """Keeps the phase of an engine, or of all engines of a run together. ``shared``: False for an engine with a GPU of
    its own."""

    shared: bool = False
    phase: str = AWAKE

    def check(self, call: str) -> None:
        """Refuses a call that is not due. Raises WrongTurn."""
        if self.shared and self.phase not in ALLOWED[call][0]:
            raise WrongTurn(f"{call} is refused: {REMEDY[self.phase]}")

    def done(self, call: str) -> None:
        """Notes that a call was made."""
        self.phase = (ALLOWED[call][1] or self.phase) if self.shared else AWAKE

    def due(self, call: str) -> bool:
        """Returns True if a call that leads to another phase has something to do. Raises WrongTurn if it is refused."""
        self.check(call)
        return self.shared and self.phase != ALLOWED[call][1]
