"""Advantages from the rewards of a group."""

from __future__ import annotations

import torch
from torch import Tensor


def group_relative(rewards_PG: Tensor, divide_by_std: bool, epsilon: float) -> Tensor:
    """``(r - mean) / (std + epsilon)`` over each group, or ``r - mean``; (P, G) in the dtype of the rewards.

    The standard deviation has G - 1 in its denominator. A group whose rewards are all equal gets exactly 0:
    the mean of eight times 0.3 is not 0.3 in floating point, and the residue must not be blown up.
    Raises ValueError for fewer than two samples and for rewards that are not finite.
    """
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] < 2:
        raise ValueError(f"rewards of shape {tuple(rewards_PG.shape)}: a group advantage needs (P, G) with G > 1")
    if not bool(torch.isfinite(rewards_PG).all()):
        raise ValueError("rewards are not all finite; a single NaN would poison its whole group")
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if divide_by_std:
        centred_PG = centred_PG / (rewards_PG.std(dim=1, keepdim=True) + epsilon)
    constant_P1 = (rewards_PG == rewards_PG[:, :1]).all(dim=1, keepdim=True)
    return centred_PG.masked_fill(constant_P1, 0.0)
