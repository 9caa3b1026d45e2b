"""Advantages from the rewards of a batch, (P prompts, G samples), in the dtype of the rewards.

Standard deviations have n − 1 in their denominator. Where all the rewards that are compared are equal, the advantage is
exactly 0. This needs care: in floating point the mean of eight times 0.3 is not 0.3, and dividing by the spread would
blow up the residue.

All functions raise ValueError for rewards that are not finite, and for fewer than two samples where samples are
compared.
"""

from __future__ import annotations

import torch
from torch import Tensor


def group_relative(rewards_PG: Tensor, divide_by_std: bool, epsilon: float) -> Tensor:
    """Computes ``(r - mean) / (std + epsilon)`` over each group, or ``r - mean`` without ``divide_by_std``."""
    _check(rewards_PG, smallest_group=2)
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if divide_by_std:
        centred_PG = centred_PG / (rewards_PG.std(dim=1, keepdim=True) + epsilon)
    return centred_PG.masked_fill(_constant_groups(rewards_PG), 0.0)


def leave_one_out(rewards_PG: Tensor) -> Tensor:
    """Subtracts from each reward the mean of the group's *other* rewards: G/(G − 1) times ``r - mean``."""
    size = rewards_PG.shape[-1]
    return group_relative(rewards_PG, divide_by_std=False, epsilon=0.0) * (size / (size - 1))


def batch_normalised(rewards_PG: Tensor, group_baseline: bool, epsilon: float) -> Tensor:
    """Computes ``(r - baseline) / (std + epsilon)``, with the numerator's standard deviation over the whole batch.

    The baseline is the batch's mean, or each group's own. After the groups' own no second mean is subtracted: it is 0,
    and its rounding would give a group of equal rewards an advantage.
    """
    if group_baseline:
        centred_PG = group_relative(rewards_PG, divide_by_std=False, epsilon=0.0)
        constant = _constant_groups(rewards_PG)
    else:
        _check(rewards_PG, smallest_group=1)
        centred_PG = rewards_PG - rewards_PG.mean()
        constant = (rewards_PG == rewards_PG[0, 0]).all()
    return (centred_PG / (centred_PG.std() + epsilon)).masked_fill(constant, 0.0)


def _check(rewards_PG: Tensor, smallest_group: int) -> None:
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] < smallest_group:
        needed = "(P, G) with G > 1" if smallest_group > 1 else "(P, G)"
        raise ValueError(f"rewards of shape {tuple(rewards_PG.shape)}: an advantage needs {needed}")
    if not bool(torch.isfinite(rewards_PG).all()):
        raise ValueError("rewards are not all finite; a single NaN would poison all that it is compared with")


def _constant_groups(rewards_PG: Tensor) -> Tensor:
    return (rewards_PG == rewards_PG[:, :1]).all(dim=1, keepdim=True)
