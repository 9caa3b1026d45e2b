"""``sfkl``: skew forward KL, KL(reference ‖ m) with m = alpha · reference + (1 − alpha) · policy.

The skew of S. Ko et al., DistiLLM (arXiv 2402.03898), the mirror image of :mod:`carerl.regularizers.srkl`:
here alpha multiplies the *reference*. alpha = 0 is forward KL, alpha = 1 is no penalty. With u = r/m, in (0, 1/alpha]:

    divergence   Σ_a r log u
    gradient     −(1 − alpha) Σ_a p · u · grad log p       (m moves with the policy)
    coefficient  (1 − alpha) · (1 − u)

The coefficient lies in [−(1 − alpha)²/alpha, 1 − alpha]: bounded on both sides, −.05 and .2 at alpha = .8. A token
that is forgotten is pulled back with a bounded weight, which is what skew reverse KL does to confidence.

Departures: [ours] 1. the baseline 1 − alpha is added, so that the coefficient is 0 at the reference. 2. r/p goes on
linearly beyond e^30, as in forward KL, to stay finite in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from carerl.regularizers.base import EXP_LIMIT, check_alpha, gap, one_minus_exp, safe_exp, skew_log_ratio
from carerl.regularizers.config import SkewConfig


@dataclass
class SFKLConfig(SkewConfig):
    """``alpha``: share of the *reference* in the mixture, in [0, 1]. ``estimator``: score | full.

    Near the reference the divergence is (1 − alpha)² of forward KL's, as skew reverse KL is of reverse KL's.
    """

    name: str = "sfkl"


@dataclass(frozen=True)
class SkewForwardKL:
    """See :class:`carerl.regularizers.base.Regularizer`."""

    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """(1 − alpha) (1 − u)."""
        log_u = skew_log_ratio(-gap(lp, lr).detach(), self.alpha)
        return (1 - self.alpha) * one_minus_exp(log_u)

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """x log u − (1 − alpha)(x − 1) with x = r/p: x log u is convex in x with this tangent at x = 1, and
        E_p[x] = 1; so it is nonnegative with the divergence as its mean."""
        log_x = -gap(lp, lr).detach()
        log_u = skew_log_ratio(log_x, self.alpha).clamp(max=EXP_LIMIT)
        return (safe_exp(log_x) * log_u + (1 - self.alpha) * one_minus_exp(log_x)).clamp(min=0)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        log_u_NV = skew_log_ratio(-gap(logp_NV, logr_NV), self.alpha)
        return (logr_NV.to(log_u_NV.dtype).exp() * log_u_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Raises ValueError: skew forward KL is no mean of a log-ratio under the policy."""
        raise ValueError("skew forward KL has the estimators score and full: k2 and k3 are made from a log-ratio")


def build(config: SFKLConfig) -> SkewForwardKL:
    return SkewForwardKL(alpha=config.alpha)
