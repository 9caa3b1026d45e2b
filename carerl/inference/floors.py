"""Ends responses early: at the end of an unsure step (CaT), or in an unsure stretch (DeepConf).

Floors travel to the engine with their requests. What they look at is computed here for whole traces too, so that a
threshold that was learned on traces means the same to a floor.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carerl.records.spread import TokenSpread, Watcher

from .confidence import LOWEST, TIE, Cumulative, confidence_of, middle_entropy
from .steps import Splitter

Judge = Callable[[int, TokenSpread], Cumulative | None]
"""Is called with each token of one response. Returns the confidence so far where a step ends, None elsewhere."""


def step_judge(splitter: Splitter, vocab: int, state: Cumulative, prefix_ids: Sequence[int] = ()) -> Judge:
    """Makes a judge of the steps that follow a prefix. ``state``: after the prefix's steps."""
    walk = splitter.walk()
    for token in prefix_ids:
        walk(token)
    entropy, tokens = 0.0, 0

    def judge(token: int, spread: TokenSpread) -> Cumulative | None:
        nonlocal state, entropy, tokens
        entropy, tokens = entropy + middle_entropy(spread), tokens + 1
        if not walk(token):
            return None
        state = state.after(confidence_of(entropy / tokens, vocab), tokens)
        entropy, tokens = 0.0, 0
        return state

    return judge


@dataclass(frozen=True)
class StepFloor:
    """Ends a response after a finished step, if its cumulative confidence is under the threshold then.

    The last step of a response that ends by itself is not judged: nothing is left to be saved. ``prefix_ids`` ends with
    a step; ``state``: the confidence of the steps in it.
    """

    threshold: float
    vocab: int
    splitter: Splitter
    state: Cumulative
    prefix_ids: tuple[int, ...] = ()

    def watch(self) -> Watcher:
        judge = step_judge(self.splitter, self.vocab, self.state, self.prefix_ids)

        def watcher(token: int, spread: TokenSpread) -> bool:
            found = judge(token, spread)
            return found is not None and found.under(self.threshold)

        return watcher


class Groups:
    """Takes the confidences of tokens one by one: the mean of each ``window`` neighbours (DeepConf's groups)."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._values: deque[float] = deque()
        self._sum = 0.0

    def take(self, value: float) -> float | None:
        """Returns the mean of the last ``window`` values; None until there are as many."""
        self._values.append(value)
        self._sum += value
        if len(self._values) > self._window:
            self._sum -= self._values.popleft()
        return self._sum / self._window if len(self._values) == self._window else None


@dataclass(frozen=True)
class WindowFloor:
    """Ends a response where the mean confidence of its last ``window`` tokens is under the bar (DeepConf)."""

    bar: float
    window: int

    def watch(self) -> Watcher:
        groups = Groups(self.window)

        def watcher(token: int, spread: TokenSpread) -> bool:
            mean = groups.take(token_confidence(spread))
            return mean is not None and mean < self.bar - TIE

        return watcher


def token_confidence(spread: TokenSpread) -> float:
    """Returns DeepConf's confidence of a token, −mean log p of the likeliest ones: 0 or more, high where one is likely
    and the others are not. [ours] It is finite: a running sum would never get rid of an infinity."""
    return min(-spread.top_mean, -LOWEST)


def lowest_group(spreads: Sequence[TokenSpread], window: int) -> float:
    """Returns the least mean confidence of ``window`` neighbours; of all tokens where there are fewer."""
    groups = Groups(min(window, len(spreads)))
    means = [groups.take(token_confidence(spread)) for spread in spreads]
    return min(mean for mean in means if mean is not None)


def tail_confidence(spreads: Sequence[TokenSpread], window: int) -> float:
    """Returns the mean confidence of the last ``window`` tokens, of all where there are fewer."""
    last = spreads[-window:]
    return math.fsum(map(token_confidence, last)) / len(last)
