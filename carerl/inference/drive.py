"""Drives the methods of many questions at once. No question waits for another.

under_way = UnderWay()
under_way.start("q1", METHODS["cat"].build(context))
while under_way:
    for key, ask in under_way.asks():
        ...                                    # draw a trace for each; they may end in any order
    under_way.give(key, ask.path, trace)       # whenever one has ended
    for key, decoded in under_way.finished():
        ...
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from .base import Ask, Decoded, Method, Trace


@dataclass
class _Question:
    """A method that waits: what it asked for, in order, and what has come."""

    method: Method
    asks: tuple[Ask, ...] = ()
    traces: dict[tuple[int, ...], Trace] = field(default_factory=dict)


class UnderWay:
    """Holds the questions whose methods have not ended. It is true while there is one, or one to be collected."""

    def __init__(self) -> None:
        self._questions: dict[Hashable, _Question] = {}
        self._new: list[tuple[Hashable, Ask]] = []
        self._finished: list[tuple[Hashable, Decoded]] = []

    def __bool__(self) -> bool:
        return bool(self._questions or self._finished)

    def __len__(self) -> int:
        """Returns how many questions have not ended."""
        return len(self._questions)

    def start(self, key: Hashable, method: Method) -> None:
        """Begins a question. Raises ValueError for a key that is under way."""
        if key in self._questions:
            raise ValueError(f"question {key!r} is under way already")
        self._questions[key] = _Question(method)
        self._go_on(key, None)

    def asks(self) -> list[tuple[Hashable, Ask]]:
        """Returns the asks that are new since the last call, those of a question in its order."""
        found, self._new = self._new, []
        return found

    def give(self, key: Hashable, path: tuple[int, ...], trace: Trace) -> None:
        """Gives the trace that was drawn for the ask with this path. The question goes on with its last one.

        Raises ValueError for a path that was not asked for, or has its trace, and for a trace that breaks its ask.
        """
        question = self._questions.get(key)
        asks = {ask.path: ask for ask in question.asks} if question else {}
        if question is None or path not in asks or path in question.traces:
            raise ValueError(f"question {key!r} does not wait for a trace of path {path}")
        if not 0 < len(trace.token_ids) <= asks[path].max_new_tokens:
            limit = asks[path].max_new_tokens
            raise ValueError(f"path {path} of question {key!r} got {len(trace.token_ids)} tokens, 1 to {limit} wanted")
        question.traces[path] = trace
        if len(question.traces) == len(question.asks):
            self._go_on(key, [question.traces[ask.path] for ask in question.asks])

    def finished(self) -> list[tuple[Hashable, Decoded]]:
        """Returns the questions that have ended since the last call."""
        found, self._finished = self._finished, []
        return found

    def _go_on(self, key: Hashable, traces: list[Trace] | None) -> None:
        """Sends a method its traces (None: begins it), and notes what it asks for next or that it has ended."""
        question = self._questions[key]
        try:
            asks = tuple(next(question.method) if traces is None else question.method.send(traces))
            while not asks:  # it has nothing to wait for
                asks = tuple(question.method.send(()))
        except StopIteration as stop:
            del self._questions[key]
            self._finished.append((key, stop.value))
            return
        if len({ask.path for ask in asks}) < len(asks):
            raise ValueError(f"question {key!r} asks for one path twice: {[ask.path for ask in asks]}")
        question.asks, question.traces = asks, {}
        self._new += [(key, ask) for ask in asks]
