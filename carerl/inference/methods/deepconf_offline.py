"""Draws K responses and lets the confident ones vote: DeepConf, offline (Fu et al., arXiv 2508.15260).

A response's confidence is that of its lowest group of neighbouring tokens, of its last ones, or of all of them. The
``keep`` most confident share votes, each with its confidence as weight.
"""

from __future__ import annotations

import math

from ..base import Method, Trace
from ..confidence import TIE
from ..context import Context, decoded
from ..floors import lowest_group, tail_confidence

LEAST_GROUPS = 4  # a response of full length has at least as many


def group_size(context: Context) -> int:
    """Returns the tokens of a group."""
    return min(context.decode.deepconf.window, max(1, context.max_new_tokens // LEAST_GROUPS))


def confidence(trace: Trace, context: Context) -> float:
    """Returns the confidence of a response, nats."""
    spreads, window = context.spreads(trace), group_size(context)
    if context.decode.deepconf.measure == "lowest":
        return lowest_group(spreads, window)
    return tail_confidence(spreads, window if context.decode.deepconf.measure == "tail" else len(spreads))


def deepconf_offline(context: Context) -> Method:
    """Draws all responses at once. Responses that are as confident as the last one that is kept are kept too."""
    asks = context.roots(0, context.decode.budget)
    traces = yield asks
    weights = [confidence(trace, context) for trace in traces]
    kept = max(1, math.ceil(round(context.decode.deepconf.keep * len(weights), 9)))
    bar = sorted(weights, reverse=True)[kept - 1]
    weights = [weight if weight >= bar - TIE else 0.0 for weight in weights]
    width = context.width([spread for trace in traces for spread in trace.spreads])
    facts = {"threshold": bar, "window": group_size(context), **width}
    return decoded(map(context.branch, asks, traces, weights), rounds=1, facts=facts)
