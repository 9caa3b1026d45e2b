"""A display that asks for a stop, so that a run ends where a test wants it to."""

from __future__ import annotations

from collections.abc import Mapping

from carerl.controller.ending.stopping import StopFlag
from carerl.tracking.display import QuietDisplay


class StopAt(QuietDisplay):
    """Asks for a stop while a step is logged (``at``: its number), or when a stage begins for the ``nth`` time (``at``:
    its name). A step of 0 or a stage without a name never comes."""

    def __init__(self, flag: StopFlag, at: int | str, nth: int = 1) -> None:
        self._flag, self._at, self._left = flag, at, nth

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self._at:
            self._flag.request("the test says so")

    def stage(self, name: str) -> None:
        self._left -= name == self._at
        if name == self._at and self._left == 0:
            self._flag.request("the test says so")
