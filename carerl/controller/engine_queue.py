"""Keeps a few rounds of the engines queued, so that what ended in one is graded while the next is decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from carerl.types import Group

T = TypeVar("T")
Ended = list[tuple[int, Group]]  # groups with the numbers of their prompts
DEPTH = 2


class Rounds(Generic[T]):
    """Queues rounds. ``advance()`` has the engines work a round; the function that it returns waits for what ended in
    it: groups or completions, with their numbers."""

    def __init__(self, advance: Callable[[], Callable[[], list[tuple[int, T]]]], depth: int = DEPTH) -> None:
        self._advance, self._depth = advance, depth
        self._queued: deque[Callable[[], list[tuple[int, T]]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._queued)

    def fill(self) -> None:
        """Queues rounds until there are ``depth`` of them."""
        while len(self._queued) < self._depth:
            self._queued.append(self._advance())

    def wait(self) -> dict[int, T]:
        """Waits for the oldest round; returns what ended in it, by number."""
        return dict(self._queued.popleft()())

    def drop(self) -> None:
        """Waits for all queued rounds, and drops what ends in them."""
        while self._queued:
            self._queued.popleft()()
