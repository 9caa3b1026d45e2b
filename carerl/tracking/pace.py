"""Measures how fast a run goes, for the plain display and the live one alike."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Measures seconds per step over the last steps, and from it the time left. Evaluations and checkpoints between
    steps are included, as they take time too."""

    def __init__(self, total_steps: int, now: Callable[[], float] = time.monotonic, window: int = 30) -> None:
        self.total_steps = total_steps
        self.start = now()
        self._now = now
        self._window = window
        self._marks: list[tuple[int, float]] = []

    def elapsed(self) -> float:
        return self._now() - self.start

    def step(self, step: int) -> None:
        self._marks = [*self._marks[-self._window :], (step, self._now())]

    def left(self) -> float | None:
        """Returns the seconds left, or None before two steps are known."""
        if len(self._marks) < 2:
            return None
        (first, begin), (last, end) = self._marks[0], self._marks[-1]
        if last <= first:
            return None
        return max(0.0, (end - begin) / (last - first) * (self.total_steps - last) - (self._now() - end))
