"""``js``: Jensen–Shannon divergence, ½ KL(policy ‖ m) + ½ KL(reference ‖ m) with m = ½ policy + ½ reference.

It is symmetric and at most log 2 (J. Lin, "Divergence measures based on the Shannon entropy", 1991). As (p + r)/(2m) =
1, the movement of the mixture itself drops out:

    gradient     ½ Σ_a p · log(p/m) · grad log p
    coefficient  ½ log(p/m), in (−inf, ½ log 2]: 0 at the reference without a baseline

Near the reference it is a quarter of reverse KL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from carerl.regularizers.base import gap, safe_exp, skew_log_ratio
from carerl.regularizers.config import PenaltyConfig


@dataclass
class JSConfig(PenaltyConfig):
    """Takes the estimators score and full."""

    no_log_ratio: ClassVar[str] = "Jensen–Shannon is half a mean under the reference, and has score and full"
    name: str = "js"


@dataclass(frozen=True)
class JensenShannon:
    """Implements :class:`carerl.regularizers.base.Regularizer`."""

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        return skew_log_ratio(gap(lp, lr).detach(), 0.5) / 2

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns ½ log(p/m) + ½ (r/p) log(r/m), which is convex in r/p with its minimum, 0, at the reference."""
        d = gap(lp, lr).detach()
        return ((skew_log_ratio(d, 0.5) + safe_exp(-d) * skew_log_ratio(-d, 0.5)) / 2).clamp(min=0)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        d_NV = gap(logp_NV, logr_NV)
        policy_NV, reference_NV = logp_NV.to(d_NV.dtype).exp(), logr_NV.to(d_NV.dtype).exp()
        return (policy_NV * skew_log_ratio(d_NV, 0.5) + reference_NV * skew_log_ratio(-d_NV, 0.5)).sum(-1) / 2

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Raises ValueError: Jensen–Shannon is not the mean of a log-ratio under the policy."""
        raise ValueError("Jensen–Shannon has the estimators score and full: k2 and k3 are made from a log-ratio")


def build(config: JSConfig) -> JensenShannon:
    return JensenShannon()
