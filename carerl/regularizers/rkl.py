"""``rkl``: reverse KL, KL(policy ‖ reference) = Σ_a p log(p/r), the usual penalty of RLHF and GRPO.

The gradient is Σ_a p · (log(p/r) + 1) · grad log p. The constant 1 drops out of the expectation, and without it the
coefficient is 0 at the reference. This is the baseline in the tables of CARE-RFT (arXiv 2602.00085).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from carerl.regularizers.base import excess, gap
from carerl.regularizers.config import PenaltyConfig


@dataclass
class RKLConfig(PenaltyConfig):
    """Takes the estimators score, full, k2 and k3."""

    name: str = "rkl"


@dataclass(frozen=True)
class ReverseKL:
    """Implements :class:`carerl.regularizers.base.Regularizer`."""

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns lp − lr, unbounded in both directions."""
        return gap(lp, lr).detach()

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        return excess(gap(lp, lr)).detach().clamp(min=0)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        difference_NV = gap(logp_NV, logr_NV)
        return (logp_NV.to(difference_NV.dtype).exp() * difference_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        return gap(lp, lr)


def build(config: RKLConfig) -> ReverseKL:
    return ReverseKL()
