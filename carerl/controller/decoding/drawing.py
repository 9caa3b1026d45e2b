"""Draws what methods of inference ask for, through the engines: many questions at once, none waiting for another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from carerl.actors.handles.engines import Engines
from carerl.backends.engines.base import Request
from carerl.controller.decoding.plan import Plan
from carerl.controller.engine_queue import Rounds
from carerl.inference.base import Ask, Decoded, Method, Trace
from carerl.inference.drive import UnderWay
from carerl.types import Completion, Sampling

ROUNDS = 32  # rounds per response of full length; after each, questions whose traces are there go on
SHORTEST_ROUND = 4  # tokens


@dataclass(frozen=True)
class Drawn:
    """A question whose method has ended. ``seconds``: of the time that all questions together take, its part: what has
    passed since the round before in which one ended, divided among those that ended in this one."""

    number: int
    decoded: Decoded
    seconds: float


class Drawing:
    """Drives one method on a suite's questions. It is true while one has not ended.

    Engines work in rounds of a few tokens, of which two are queued. What a method asks for joins them at the next round
    that is queued, at the engine that has the question's other branches in its prefix cache. ``top``: how many of the
    likeliest tokens a token's spread is computed from; 0 where the method reads no spreads.
    """

    def __init__(
        self, engines: Engines, plan: Plan, max_new_tokens: int, top: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan, self._limit, self._top, self._now = plan, max_new_tokens, top, now
        self._flow = engines.flow()
        tokens = max(SHORTEST_ROUND, math.ceil(max_new_tokens / ROUNDS))
        self._rounds = Rounds(lambda: self._flow.advance(tokens))
        self._under_way = UnderWay()
        self._numbers = count()
        self._asked: dict[int, tuple[int, Ask]] = {}  # by the request's number: the question, and what it asked for
        self._prompts: dict[int, tuple[int, ...]] = {}
        self._since = now()

    def __bool__(self) -> bool:
        return bool(self._under_way)

    @property
    def open(self) -> int:
        """The number of responses that are being drawn."""
        return len(self._asked)

    def begin(self, number: int, prompt_ids: tuple[int, ...], method: Method) -> None:
        """Begins a question, which has this number from now on."""
        self._prompts[number] = prompt_ids
        self._under_way.start(number, method)
        self._submit()

    def advance(self) -> list[Drawn]:
        """Waits for a round, and gives the methods what ended in it. Returns the questions that ended."""
        self._rounds.fill()
        for request, (completion,) in self._rounds.wait().items():
            number, ask = self._asked.pop(request)
            self._under_way.give(number, ask.path, _trace(completion))
        self._submit()
        ended = [(number, decoded) for number, decoded in self._under_way.finished() if isinstance(number, int)]
        if not ended:
            return []
        before, self._since = self._since, self._now()
        seconds = (self._since - before) / len(ended)
        return [Drawn(number, decoded, seconds) for number, decoded in ended]

    def end(self, cancel: bool = False) -> None:
        """Waits for the rounds that are queued. ``cancel``: has the engines forget what was asked for."""
        self._rounds.drop()
        if cancel:
            self._flow.cancel()

    def _submit(self) -> None:
        """Sends what methods have asked for since the last call to the engines."""
        new = [(number, ask) for number, ask in self._under_way.asks() if isinstance(number, int)]
        for temperature in sorted({ask.temperature for _, ask in new}):
            alike = [(number, ask) for number, ask in new if ask.temperature == temperature]
            requests = [self._request(number, ask) for number, ask in alike]
            sampling = Sampling(1, temperature, self._limit, seed=0, stop_ids=self._plan.stop_ids)  # asks have seeds
            self._flow.submit(requests, sampling, homes=[number for number, _ in alike])

    def _request(self, number: int, ask: Ask) -> Request:
        request = next(self._numbers)
        self._asked[request] = number, ask
        return Request(
            request,
            (*self._prompts[number], *ask.prefix_ids),
            seed=ask.seed,
            max_new_tokens=ask.max_new_tokens,
            top=self._top,
            floor=ask.floor,
        )


def _trace(completion: Completion) -> Trace:
    return Trace(
        completion.token_ids, completion.logprobs, completion.spreads, completion.truncated, completion.floored
    )
