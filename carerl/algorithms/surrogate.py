"""The policy term of a token."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # nats: a ratio of 5e8 is a broken run, but not yet infinite times zero


class Surrogate(Protocol):
    def __call__(self, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and whether the clip is active, each of the inputs' shape."""
        ...


def clipped(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """``-min(ratio·A, clip(ratio, 1 - low, 1 + high)·A)`` with ratio = exp(logprobs - old_logprobs) per token
    (PPO, arXiv 1707.06347, eq. 7). The second result is True where the clipped branch was the smaller one, so
    that the token has no gradient. A ratio above e^20 is held there, without gradient."""
    ratio = (logprobs - old_logprobs.detach()).clamp(max=LOG_RATIO_LIMIT).exp()
    free = ratio * advantages
    bounded = ratio.clamp(1.0 - low, 1.0 + high) * advantages
    return -torch.minimum(free, bounded), (bounded < free).detach()
