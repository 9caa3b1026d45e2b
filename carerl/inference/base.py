"""The records between a method of inference and what draws tokens for it.

A method is a generator. It yields a list of asks and is sent their traces, in the same order, until it returns a
:class:`Decoded`. It knows no engine. Questions do not wait for each other: whoever drives the methods
(:mod:`carerl.inference.drive`) sends each one its traces as soon as all that it has asked for are there.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from carerl.records.spread import Floor, TokenSpread


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks for one continuation of a response that has ``prefix_ids`` already.

    ``path``: the place in the question's tree, from which ``seed`` was derived: so a trace depends on no batch order.
    ``max_new_tokens``: at least 1. ``floor``: what may end the continuation early.
    """

    path: tuple[int, ...]
    prefix_ids: tuple[int, ...]
    seed: int
    max_new_tokens: int
    temperature: float
    floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Holds the tokens that were drawn for an ask: never its prefix. ``spreads`` has one entry a token.

    ``truncated``: the length limit ended it. ``floored``: the ask's floor ended it. Neither: it ended by itself.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    spreads: tuple[TokenSpread, ...]
    truncated: bool = False
    floored: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """One path from the root of a question's tree to a leaf.

    ``token_ids``: the whole response, what it shares with its parent included. ``own``: how many of them were drawn for
    this branch alone (the last ones), so that the sum over branches counts each token once. ``parent``: the number of
    the branch that it was forked from; -1 for none. ``steps``: where each step ends (exclusive). ``confidences``: one a
    step. ``pruned``: it was ended by the method and has no vote. ``weight``: of its vote.
    """

    path: tuple[int, ...]
    token_ids: tuple[int, ...]
    own: int
    parent: int = -1
    steps: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    pruned: bool = False
    truncated: bool = False
    weight: float = 1.0
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """Holds a method's result for one question. ``winner``: the number of the branch whose answer was elected, -1 if no
    branch has an answer. ``confidence``: the share of the votes' weight that the answer has, in [0, 1]. ``tokens``: all
    that were drawn, pruned ones included, each once. ``rounds``: how many times the engine was waited for."""

    branches: tuple[Branch, ...]
    winner: int
    confidence: float
    tokens: int
    rounds: int
    facts: Mapping[str, float] = field(default_factory=dict)


Method = Generator[Sequence[Ask], Sequence[Trace], Decoded]
