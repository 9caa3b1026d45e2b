"""``srkl``: skew reverse KL, KL(policy ‖ m) with m = alpha · policy + (1 − alpha) · reference.

CARE-RFT (arXiv 2602.00085). With rho = p/m, in (0, 1/alpha]:

    divergence   Σ_a p log rho
    gradient     Σ_a p · (log rho + 1 − alpha · rho) · grad log p       (m moves with the policy)
    coefficient  log rho − alpha · (rho − 1)

alpha multiplies the *policy* in the mixture: alpha = 0 is reverse KL, alpha = 1 is no penalty. The
coefficient is bounded above by log(1/alpha) − 1 + alpha (.023 at alpha = .8): a token that the policy has
become confident in pays a bounded price. It is unbounded below: a token pushed far under the reference is
pulled back without limit. That asymmetry is the method.

Departures: [ours] 1. the baseline 1 − alpha is subtracted, so that the coefficient is 0 at the reference and
a fresh run starts without the regularizer's noise (near the reference its variance would be hundreds of
times larger).
2. log rho is computed from the gap lp − lr alone, see ``skew_log_ratio``.
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
    """``alpha``: share of the policy in the mixture, in [0, 1]. ``estimator``: score | full | k2 | k3.

    Near the reference the divergence is (1 − alpha)² of reverse KL's: equal betas compare unequal
    strengths (25 times at alpha = .8).
    """

    name: str = "srkl"


@dataclass(frozen=True)
class SkewReverseKL:
    """See :class:`carerl.regularizers.base.Regularizer`."""

    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """log rho − alpha (rho − 1), in (−inf, log(1/alpha) − 1 + alpha]."""
        log_rho = self.log_ratio(lp, lr).detach()
        return log_rho - self.alpha * torch.expm1(log_rho.clamp(max=LOG_RHO_LIMIT))

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """1/rho + log rho − 1: as E_p[1/rho] = Σ m = 1, its mean is the divergence."""
        return excess(self.log_ratio(lp, lr)).detach().clamp(min=0)

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        log_rho_NV = self.log_ratio(logp_NV, logr_NV)
        return (logp_NV.to(log_rho_NV.dtype).exp() * log_rho_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """log rho. The gradient goes through the mixture too: d log rho / d lp = 1 − alpha · rho."""
        return skew_log_ratio(gap(lp, lr), self.alpha)


def build(config: SRKLConfig) -> SkewReverseKL:
    return SkewReverseKL(alpha=config.alpha)
