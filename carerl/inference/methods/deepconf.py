"""Ends unsure responses while they are drawn: DeepConf, online (Fu et al., arXiv 2508.15260).

The first ``warmup`` responses are drawn to their ends. The bar is a low quantile of their lowest group confidences; a
later response ends where a group of its tokens falls below it. A vote weighs the response's confidence.

Departures:
1. [ours] The bar is the ``quantile`` itself (.1: DeepConf-high keeps 90 %), interpolated linearly.
2. [ours] A group is at most a quarter of the length limit: groups of 2,048 tokens would never be full in responses of
   1,000, and nothing would ever be ended. Facts say how many later responses filled a group (``judged``) and how many
   of them were ended (``ended``).
3. [ours] A response below the bar has no weight, whether a floor ended it, it was drawn for the warm-up, or it was too
   short for a group. The tokens of all of them count.
4. [ours] Nothing stops on a consensus.
5. [ours] ``warmup=0`` takes the bar from validation. The first response has no floor then, so that one always ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..base import Method, Trace
from ..confidence import TIE
from ..config import DecodeConfig
from ..context import Context, decoded
from ..floors import WindowFloor, lowest_group
from .deepconf_offline import confidence, group_size


def learns(decode: DecodeConfig) -> bool:
    """Returns True where validation gives the bar."""
    return decode.deepconf.warmup == 0


def threshold_from(traces: Sequence[Trace], context: Context) -> float:
    """Returns the bar: a quantile of the traces' lowest group confidences. Raises ValueError for no trace."""
    if not traces:
        raise ValueError("a bar needs traces")
    window = group_size(context)
    return float(
        np.quantile([lowest_group(context.spreads(t), window) for t in traces], context.decode.deepconf.quantile)
    )


def deepconf(context: Context) -> Method:
    """Draws the warm-up, then all others at once."""
    budget, window = context.decode.budget, group_size(context)
    warmup = min(max(context.decode.deepconf.warmup, 1), budget)
    asks = context.roots(0, warmup)
    traces = list((yield asks))
    bar = context.threshold if learns(context.decode) else threshold_from(traces, context)
    later = context.roots(warmup, budget, WindowFloor(bar, window))
    if later:
        traces += yield later
    branches = []
    for ask, trace in zip([*asks, *later], traces, strict=True):
        pruned = not context.ended(trace)
        above = lowest_group(context.spreads(trace), window) >= bar - TIE
        branches.append(context.branch(ask, trace, confidence(trace, context) if above else 0.0, pruned))
    facts = {
        "threshold": bar,
        "window": window,
        "judged": sum(len(trace.token_ids) >= window for trace in traces[warmup:]),
        "ended": sum(branch.pruned for branch in branches),
        **context.width([spread for trace in traces for spread in trace.spreads]),
    }
    return decoded(branches, rounds=2 if later else 1, facts=facts)
