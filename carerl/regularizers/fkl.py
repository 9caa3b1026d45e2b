"""``fkl``: forward KL, KL(reference ‖ policy) = Σ_a r log(r/p).

The gradient is −Σ_a r · grad log p = −E_{a~policy}[(r/p) · grad log p].

Departures: [ours] 1. With the baseline 1 the coefficient, 1 − r/p, is 0 at the reference. It equals the derivative of
k3 on reverse KL: GRPO with its usual k3 penalty has always been GRPO with forward KL. 2. r/p continues linearly beyond
e^30, to stay finite in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from carerl.regularizers.base import EXP_LIMIT, gap, one_minus_exp, safe_exp
from carerl.regularizers.config import PenaltyConfig


@dataclass
class FKLConfig(PenaltyConfig):
    """Takes the estimators score and full."""

    no_log_ratio: ClassVar[str] = "k3 on rkl already has the gradient of forward KL, and score on fkl equals it"
    name: str = "fkl"


@dataclass(frozen=True)
class ForwardKL:
    """Implements :class:`carerl.regularizers.base.Regularizer`."""

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns 1 − r/p, at most 1: a token far under the reference is pulled back with a weight of r/p."""
        return one_minus_exp(-gap(lp, lr).detach())

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns x log x − x + 1 with x = r/p: nonnegative, and with mean Σ r log(r/p) under the policy."""
        log_x = -gap(lp, lr).detach()
        x = safe_exp(log_x)
        near = log_x * x - torch.expm1(log_x.clamp(-1, 1))
        return torch.where(log_x.abs() < 1, near.clamp(min=0), x * log_x.clamp(max=EXP_LIMIT) - x + 1)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        difference_NV = gap(logp_NV, logr_NV)
        return -(logr_NV.to(difference_NV.dtype).exp() * difference_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Raises ValueError: forward KL is not the mean of a log-ratio under the policy."""
        raise ValueError("forward KL has the estimators score and full: k2 and k3 are made from a log-ratio")


def build(config: FKLConfig) -> ForwardKL:
    return ForwardKL()
