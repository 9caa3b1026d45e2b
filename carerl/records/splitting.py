"""The protocols of what cuts responses into steps. Texts are cut at a delimiter (:mod:`carerl.inference.steps`), and a
task may have steps of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Walker = Callable[[int], bool]
"""Is called with each token of one response, in order. Returns True if a step ends after it."""


class Splitter(Protocol):
    """Knows where steps end. It travels with floors to an engine, so it must be picklable."""

    def walk(self) -> Walker:
        """Returns a walker for one response. It sees no token before its time: where it says that a step ends,
        ``split`` says so too, but for the last one, which may move to the response's end."""
        ...

    def split(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """Returns the end (exclusive) of each step. The last one is the response's length; () for no token."""
        ...
