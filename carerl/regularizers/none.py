"""``none``: no penalty. The divergence to the reference is still measured and logged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carerl.regularizers.base import gap
from carerl.regularizers.config import RegularizerConfig


@dataclass
class NoneConfig(RegularizerConfig):
    """Fixes strength, estimator and place: there is no penalty that they could change."""

    name: str = "none"


@dataclass(frozen=True)
class NoRegularizer:
    """Gives 0 everywhere, with gradients of 0. See :class:`carerl.regularizers.base.Regularizer`."""

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        return torch.zeros_like(gap(lp, lr))

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        return torch.zeros_like(gap(lp, lr))

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        return 0.0 * gap(logp_NV, logr_NV).sum(-1)

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        return 0.0 * gap(lp, lr)


def build(config: NoneConfig) -> NoRegularizer:
    return NoRegularizer()
