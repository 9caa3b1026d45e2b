"""Makes solutions of graded responses: what the policy's entropies say of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from carerl.preferences.records import Solution, Step
from carerl.records.spread import confidence_of
from carerl.types import Example, Sample


@dataclass(frozen=True, slots=True)
class Scores:
    """Holds what the policy says of each token of a response, at the temperature that drew it, nats. ``entropies``: of
    the whole distribution there. ``peaks``: log-prob of the likeliest token. ``logprobs``: of the token itself."""

    entropies: Sequence[float]
    peaks: Sequence[float]
    logprobs: Sequence[float]


def solution(
    example: Example,
    sample: Sample,
    ends: Sequence[int],
    scores: Scores,
    vocab: int,
    prefix: int = 0,
    second: bool = False,
) -> Solution:
    """Returns a response with its steps, which have no verdict yet.

    ``ends``: where steps end, as :meth:`carerl.records.splitting.Splitter.split` gives them. ``vocab``: V, the real
    rows of the vocabulary. ``prefix``, ``second``: see :class:`Solution`. Raises ValueError for another number of
    scores than the response has tokens.
    """
    length = len(sample.response_ids)
    for name in ("entropies", "peaks", "logprobs"):
        if (found := len(getattr(scores, name))) != length:
            raise ValueError(f"a response to {example.id} has {length} tokens and {found} {name}")
    steps = tuple(
        Step(
            start=start,
            end=end,
            confidence=confidence_of(fmean(scores.entropies[start:end]), vocab),
            peak=fmean(map(math.exp, scores.peaks[start:end])),
            logprob=math.fsum(scores.logprobs[start:end]),
        )
        for start, end in zip((0, *ends), ends, strict=False)
    )
    return Solution(example, sample, steps, prefix, second)
