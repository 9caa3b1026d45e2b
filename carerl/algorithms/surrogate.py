"""The policy term of a token, with a ratio for each token or for each sequence."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # nats: a ratio of 5e8 is a broken run, but not yet infinite times zero


class Surrogate(Protocol):
    def __call__(
        self, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, lengths_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss and whether the clip is active, both of the first inputs' shape (N,). The inputs hold whole
        rows of tokens, row after row, of ``lengths_B`` tokens each."""
        ...


def clipped(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, lengths_B: Tensor | None, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Computes ``-min(ratio·A, clip(ratio, 1 - low, 1 + high)·A)`` with ratio = exp(logprobs - old_logprobs) for each
    token (PPO, arXiv 1707.06347, eq. 7).

    The second result is True where the clipped branch is the smaller one, so that the token has no gradient. A ratio
    above e^20 is held there, without gradient.
    """
    return _clipped(logprobs - old_logprobs.detach(), advantages, low, high)


def sequence_clipped(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, lengths_B: Tensor | None, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Computes the same as :func:`clipped` with one ratio for a whole row, exp(mean over the response of the
    log-ratio), through which the gradient reaches all of the response's tokens (GSPO, arXiv 2507.18071, eq. 5 and 7).
    """
    return _clipped(row_means(logprobs - old_logprobs.detach(), lengths_B), advantages, low, high)


def _clipped(log_ratio: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    ratio = log_ratio.clamp(max=LOG_RATIO_LIMIT).exp()
    free = ratio * advantages
    bounded = ratio.clamp(1.0 - low, 1.0 + high) * advantages
    return -torch.minimum(free, bounded), (bounded < free).detach()


def row_means(values_N: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Returns (N,): for every token the mean of ``values_N`` over its own row, with gradient.

    Tokens stand row after row without padding; ``lengths_B`` says how many belong to each row. A row of length 0 has
    neither a token nor a mean. Raises ValueError without lengths, or if they do not add up to N.
    """
    if lengths_B is None or int(lengths_B.sum()) != values_N.numel():
        raise ValueError(f"{values_N.numel()} tokens cannot be dealt to rows of the lengths {lengths_B}")
    if values_N.numel() == 0:
        return values_N
    # Over a padded grid and not by index_add, whose sums on a GPU come in another order in every run.
    mask_BT = torch.arange(int(lengths_B.max()), device=values_N.device)[None, :] < lengths_B[:, None]
    grid_BT = values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)
    means_B1 = grid_BT.sum(dim=1, keepdim=True) / lengths_B.clamp(min=1)[:, None]
    return means_B1.expand_as(grid_BT)[mask_BT]
