"""``srkl``: skew reverse KL, KL(policy ‖ m) with the mixture m = alpha · policy + (1 − alpha) · reference.

This is the regularizer of CARE-RFT (arXiv 2602.00085). With p for the policy and rho = p/m, in (0, 1/alpha]:

    divergence   Σ_a p log rho
    gradient     Σ_a p · (log rho + 1 − alpha · rho) · grad log p       (the gradient flows through m too)
    coefficient  log rho − alpha · (rho − 1)

alpha multiplies the *policy* in the mixture: alpha = 0 is reverse KL, alpha = 1 is no penalty.

The method works by an asymmetry of the coefficient. It is bounded above by log(1/alpha) − 1 + alpha (.023 at alpha =
.8): a token in which the policy has become confident pays a bounded price. It is unbounded below: a token that the
policy has pushed far under the reference is pulled back without limit.

Departures: [ours] 1. 1 − alpha is subtracted from the factor in the gradient line, as a baseline, so that the
coefficient is 0 at the reference and a fresh run starts without the regularizer's noise. Without it the variance near
the reference would be hundreds of times larger. 2. log rho is computed from the gap lp − lr alone, see
:func:`~carerl.regularizers.base.skew_log_ratio`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carerl.regularizers.base import check_alpha, excess, gap, skew_log_ratio
from carerl.regularizers.config import SkewConfig

LOG_RHO_LIMIT = 80.0  # reached only by alpha < e^-80, where alpha * rho would be inf * 0


@dataclass
class SRKLConfig(SkewConfig):
    """Adds ``alpha``, the share of the policy in the mixture, in [0, 1]. Takes the estimators score, full, k2 and k3.

    Near the reference the divergence is (1 − alpha)² times reverse KL. So equal betas are unequal strengths: at alpha =
    .8 they differ by a factor of 25.
    """

    name: str = "srkl"


@dataclass(frozen=True)
class SkewReverseKL:
    """Implements :class:`carerl.regularizers.base.Regularizer`."""

    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns log rho − alpha (rho − 1), in (−inf, log(1/alpha) − 1 + alpha]."""
        log_rho = self.log_ratio(lp, lr).detach()
        return log_rho - self.alpha * torch.expm1(log_rho.clamp(max=LOG_RHO_LIMIT))

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns 1/rho + log rho − 1. Its mean under the policy is the divergence, as E_p[1/rho] = Σ m = 1."""
        return excess(self.log_ratio(lp, lr)).detach().clamp(min=0)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        log_rho_NV = self.log_ratio(logp_NV, logr_NV)
        return (logp_NV.to(log_rho_NV.dtype).exp() * log_rho_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Returns log rho. The gradient goes through the mixture too: d log rho / d lp = 1 − alpha · rho."""
        return skew_log_ratio(gap(lp, lr), self.alpha)


def build(config: SRKLConfig) -> SkewReverseKL:
    return SkewReverseKL(alpha=config.alpha)
