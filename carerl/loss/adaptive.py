"""Strengths that follow a target: the penalty's a divergence, the entropy bonus an entropy."""

from __future__ import annotations

import math

from carerl.regularizers.config import CLIP


def adapted_beta(beta: float, measured: float, target: float, gain: float) -> float:
    """beta · (1 + gain · clip(measured / target − 1, −.2, .2)): the proportional controller of D. Ziegler et al., 2019
    (arXiv 1909.08593, section 2.2). Both divergences in nats a token.

    Departure: the divergence is per token of one step, not per sequence, so that a target means the same for responses
    of any length. A target that a bounded penalty cannot hold lets beta grow without end; the metric shows it. A
    measurement that is not finite says nothing and moves nothing. ``gain`` must stay below 1 / CLIP, or beta would
    reach 0.

    >>> [f"{adapted_beta(2.0, measured, target=0.1, gain=0.1):.3f}" for measured in (0.0, 0.1, 0.11, 9.0)]
    ['1.960', '2.000', '2.020', '2.040']
    """
    if not math.isfinite(measured):
        return beta
    error = min(max(measured / target - 1.0, -CLIP), CLIP)
    return beta * (1.0 + gain * error)


def adapted_entropy_bonus(coefficient: float, entropy: float, target: float, step: float) -> float:
    """The next coefficient: one ``step`` up while the measured token entropy (nats) is below ``target``, one down
    otherwise, never below 0 (Skywork-OR1, arXiv 2505.22312, adaptive entropy control).

    Departure: the coefficient stays on above the target until it has come down by itself; the paper switches it off.

    >>> adapted_entropy_bonus(0.01, entropy=0.2, target=0.3, step=0.005)
    0.015
    """
    return max(0.0, coefficient + step) if entropy < target else max(0.0, coefficient - step)
