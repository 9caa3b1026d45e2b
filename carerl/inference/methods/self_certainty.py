"""Draws K responses and believes the most certain (Kang et al., arXiv 2502.18581).

The certainty of a response is the mean over its tokens of KL(uniform ‖ p); a lower bound of it where the likeliest
tokens alone are known. ``best``: the answer of the most certain response that has one. ``borda``: a vote weighs
(K − rank + 1)^power; [ours] responses that are equally certain share the mean of their ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..base import Method
from ..confidence import TIE
from ..config import DecodeConfig
from ..context import Context, decoded


def rule(decode: DecodeConfig) -> str:
    """Returns how the branches elect."""
    return "best" if decode.self_certainty.vote == "best" else "vote"


def self_certainty(context: Context) -> Method:
    """Draws all responses at once. A branch weighs its certainty (``best``) or by its rank (``borda``)."""
    settings = context.decode.self_certainty
    asks = context.roots(0, context.decode.budget)
    traces = yield asks
    spreads = [context.spreads(trace) for trace in traces]
    weights = [max(0.0, sum(s.certainty for s in row) / len(row)) for row in spreads]
    if settings.vote == "borda":
        weights = borda(weights, settings.power)
    width = context.width([spread for row in spreads for spread in row])
    return decoded(map(context.branch, asks, traces, weights), rounds=1, facts=width)


def borda(certainties: Sequence[float], power: float) -> list[float]:
    """Returns (N − rank + 1)^power of each, rank 1 the most certain.

    >>> borda([2.0, 5.0, 2.0], 1.0)
    [1.5, 3.0, 1.5]
    """
    count = len(certainties)
    found = []
    for value in certainties:
        above = sum(other > value + TIE for other in certainties)
        equal = sum(abs(other - value) <= TIE for other in certainties)
        rank = above + (equal + 1) / 2
        found.append((count - rank + 1) ** power)
    return found
