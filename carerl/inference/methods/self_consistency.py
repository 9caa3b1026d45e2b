"""Draws K responses and takes the majority of their answers (Wang et al., arXiv 2203.11171).

Every response has one vote, and one without an answer counts among the K.
"""

from __future__ import annotations

from ..base import Method
from ..context import Context, decoded


def self_consistency(context: Context) -> Method:
    """Draws all responses at once."""
    asks = context.roots(0, context.decode.budget)
    traces = yield asks
    return decoded(map(context.branch, asks, traces), rounds=1)
