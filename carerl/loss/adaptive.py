"""Adapts strengths to a target: the penalty's to a divergence, the entropy bonus's to an entropy."""

from __future__ import annotations

import math

from carerl.regularizers.config import CLIP


def adapted_beta(beta: float, measured: float, target: float, gain: float) -> float:
    """Returns beta · (1 + gain · clip(measured / target − 1, −.2, .2)).

    This is the proportional controller of D. Ziegler et al., 2019 (arXiv 1909.08593, section 2.2). Both divergences are
    in nats a token. ``gain`` must stay below 1 / CLIP, or beta would reach 0. A measurement that is not finite changes
    nothing. If a bounded penalty cannot hold the target, beta grows without end, and the metric shows it.

    Departure: the divergence is per token of one step, not per sequence, so that a target means the same for responses
    of any length.

    >>> [f"{adapted_beta(2.0, measured, target=0.1, gain=0.1):.3f}" for measured in (0.0, 0.1, 0.11, 9.0)]
    ['1.960', '2.000', '2.020', '2.040']
    """
    if not math.isfinite(measured):
        return beta
    error = min(max(measured / target - 1.0, -CLIP), CLIP)
    return beta * (1.0 + gain * error)


def adapted_entropy_bonus(coefficient: float, entropy: float, target: float, step: float) -> float:
    """Returns the next coefficient: one ``step`` up if the measured token entropy (nats) is below ``target``, else one
    down, never below 0 (Skywork-OR1, arXiv 2505.22312, adaptive entropy control).

    Departure: above the target the coefficient comes down step by step; the paper switches it off at once.

    >>> adapted_entropy_bonus(0.01, entropy=0.2, target=0.3, step=0.005)
    0.015
    """
    return max(0.0, coefficient + step) if entropy < target else max(0.0, coefficient - step)
