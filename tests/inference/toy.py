"""An enumerable model: a Markov chain over six tokens, whose next-token probabilities depend on the last token alone.

Token 0 ends a response, token 1 is the delimiter, tokens 2 to 5 are content; the answer of a response is its last
content token, and 5 is none. It draws as an engine does: from a generator of its ask's seed, and never past a floor.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from carerl.inference.base import Ask, Decoded, Method, Trace
from carerl.inference.confidence import spread_of, spread_of_top
from carerl.inference.config import DecodeConfig
from carerl.inference.context import Context
from carerl.inference.drive import UnderWay
from carerl.inference.election import elected
from carerl.inference.methods import METHODS
from carerl.inference.steps import TextSplitter
from carerl.records.spread import TokenSpread

END, DELIMITER, VOCAB = 0, 1, 6
SPLITTER = TextSplitter(b"\n", {END: b"", DELIMITER: b"\n"})
LIMIT = 24


@dataclass
class Chain:
    """``rows``: P(next | last), (6, 6); row 0 stands for the start. ``top``: the likeliest tokens that it shows, None
    for all. ``drawn``: the tokens that it has drawn."""

    rows: np.ndarray
    top: int | None = None
    drawn: int = 0
    _spreads: dict[int, TokenSpread] = field(default_factory=dict)

    def draw(self, ask: Ask) -> Trace:
        generator, last = random.Random(ask.seed), ask.prefix_ids[-1] if ask.prefix_ids else 0
        watch = ask.floor.watch() if ask.floor else None
        tokens: list[int] = []
        spreads: list[TokenSpread] = []
        logprobs: list[float] = []
        while len(tokens) < ask.max_new_tokens:
            row, spread = self.rows[last], self.spread(last)
            greedy = ask.temperature == 0
            last = int(row.argmax()) if greedy else int((row.cumsum() <= generator.random()).sum())
            tokens.append(last)
            logprobs.append(float(np.log(row[last])))
            spreads.append(spread)
            self.drawn += 1
            floored = watch is not None and watch(last, spread)
            if last == END or floored:
                return Trace(tuple(tokens), tuple(logprobs), tuple(spreads), floored=floored)
        return Trace(tuple(tokens), tuple(logprobs), tuple(spreads), truncated=True)

    def spread(self, last: int) -> TokenSpread:
        """Returns the spread of the distribution after a token."""
        if last not in self._spreads:
            with np.errstate(divide="ignore"):
                logp = np.log(self.rows[last])
            likeliest = sorted(logp.tolist(), reverse=True)[: self.top]
            whole = self.top is None
            self._spreads[last] = spread_of(torch.from_numpy(logp), 20) if whole else spread_of_top(likeliest, VOCAB)
        return self._spreads[last]


def chain(seed: int, sharpness: float = 1.5) -> Chain:
    """Makes a chain of random rows; about one token in six ends a step, and one in eight the response."""
    scores = np.random.default_rng(seed).normal(size=(VOCAB, VOCAB)) * sharpness
    rows = np.exp(scores)
    rows[:, 2:] *= 0.7 / rows[:, 2:].sum(axis=1, keepdims=True)
    rows[:, :2] = (0.12, 0.18)
    rows[(0, 1), :2] = (0.0, 0.0)  # no step is empty
    return Chain(rows / rows.sum(axis=1, keepdims=True))


def context(seed: int = 0, **settings: object) -> Context:
    """Makes a context; ``cat_threshold`` and the like are settings of a section."""
    decode = DecodeConfig(budget=6, temperature=1.0)
    plain = {}
    for name, value in settings.items():
        section, _, inner = name.partition("__")
        if inner:
            decode = replace(decode, **{section: replace(getattr(decode, section), **{inner: value})})
        elif hasattr(decode, name):
            decode = replace(decode, **{name: value})
        else:
            plain[name] = value
    return Context(
        seed=seed, **{"max_new_tokens": LIMIT, "vocab": VOCAB, "splitter": SPLITTER, "decode": decode} | plain
    )  # type: ignore[arg-type]


def answer(token_ids: Sequence[int]) -> str | None:
    """Returns the last content token of a response that ended; None for token 5."""
    content = [token for token in token_ids if token > 1]
    return str(content[-1]) if token_ids[-1] == END and content and content[-1] != 5 else None


def run(name: str, model: Chain, where: Context) -> Decoded:
    """Decodes one question and elects its answer."""
    return decode({0: METHODS[name].build(where)}, {0: model}, METHODS[name].rule(where.decode))[0]


def decode(
    methods: dict[int, Method],
    models: dict[int, Chain],
    rule: str = "vote",
    order: Callable[[list], None] = lambda waiting: None,
) -> dict[int, Decoded]:
    """Drives questions; ``order`` rearranges, before each trace, what is waited for."""
    under_way, waiting, found = UnderWay(), [], {}
    for key, method in methods.items():
        under_way.start(key, method)
    while under_way:
        waiting += under_way.asks()
        order(waiting)
        if waiting:
            key, ask = waiting.pop(0)
            under_way.give(key, ask.path, models[key].draw(ask))
        for key, decoded in under_way.finished():
            found[key] = elected(decoded, [answer(branch.token_ids) for branch in decoded.branches], rule)
    return found
