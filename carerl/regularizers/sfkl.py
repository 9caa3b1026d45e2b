"""``sfkl``: skew forward KL, KL(reference ‖ m) with the mixture m = alpha · reference + (1 − alpha) · policy.

This is the skew of S. Ko et al., DistiLLM (arXiv 2402.03898), the mirror image of :mod:`carerl.regularizers.srkl`: here
alpha multiplies the *reference*. alpha = 0 is forward KL, alpha = 1 is no penalty. With r for the reference, p for the
policy and u = r/m, in (0, 1/alpha]:

    divergence   Σ_a r log u
    gradient     −(1 − alpha) Σ_a p · u · grad log p       (m moves with the policy)
    coefficient  (1 − alpha) · (1 − u)

The coefficient lies in [−(1 − alpha)²/alpha, 1 − alpha], which is −.05 to .2 at alpha = .8. So a forgotten token is
pulled back with a bounded weight, as skew reverse KL bounds the price of confidence.

Departures: [ours] 1. The baseline 1 − alpha is added, so that the coefficient is 0 at the reference. 2. r/p continues
linearly beyond e^30, as in forward KL, to stay finite in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from carerl.regularizers.base import EXP_LIMIT, check_alpha, gap, one_minus_exp, safe_exp, skew_log_ratio
from carerl.regularizers.config import SkewConfig


@dataclass
class SFKLConfig(SkewConfig):
    """Adds ``alpha``, the share of the *reference* in the mixture, in [0, 1]. Takes the estimators score and full.

    Near the reference the divergence is (1 − alpha)² times forward KL, as skew reverse KL is of reverse KL.
    """

    no_log_ratio: ClassVar[str] = "skew forward KL is a mean under the reference, and has score and full"
    name: str = "sfkl"


@dataclass(frozen=True)
class SkewForwardKL:
    """Implements :class:`carerl.regularizers.base.Regularizer`."""

    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns (1 − alpha) (1 − u)."""
        log_u = skew_log_ratio(-gap(lp, lr).detach(), self.alpha)
        return (1 - self.alpha) * one_minus_exp(log_u)

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns x log u − (1 − alpha)(x − 1) with x = r/p. x log u is convex in x, and what is subtracted is its
        tangent at x = 1, with E_p[x] = 1; so the result is nonnegative and its mean is the divergence."""
        log_x = -gap(lp, lr).detach()
        log_u = skew_log_ratio(log_x, self.alpha).clamp(max=EXP_LIMIT)
        return (safe_exp(log_x) * log_u + (1 - self.alpha) * one_minus_exp(log_x)).clamp(min=0)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        log_u_NV = skew_log_ratio(-gap(logp_NV, logr_NV), self.alpha)
        return (logr_NV.to(log_u_NV.dtype).exp() * log_u_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Raises ValueError: skew forward KL is not the mean of a log-ratio under the policy."""
        raise ValueError("skew forward KL has the estimators score and full: k2 and k3 are made from a log-ratio")


def build(config: SFKLConfig) -> SkewForwardKL:
    return SkewForwardKL(alpha=config.alpha)
