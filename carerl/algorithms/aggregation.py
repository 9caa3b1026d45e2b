"""Weights of tokens and sequences in the policy term: a weight for each token, and one global denominator.

The weight depends on its row alone. The denominator is counted over the whole optimizer minibatch, before that is cut
into micro-batches or spread over ranks. Neither contains padding, nor the rows that ``policy_rows_B`` leaves out.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from carerl.types import TokenBatch


class Aggregation(Protocol):
    def __call__(self, batch: TokenBatch) -> tuple[Tensor, float]:
        """Returns weights (B, T) float32, 0 beyond each response, and the denominator of these rows."""
        ...


def policy_mask(batch: TokenBatch) -> Tensor:
    """Returns (B, T) bool: the response tokens of the rows whose policy term counts."""
    return batch.mask_BT & _rows(batch)[:, None]


def sequence_mean(batch: TokenBatch) -> tuple[Tensor, float]:
    """Averages over a response's tokens, then over responses (GRPO). An empty response has no tokens to weigh, but
    counts as a response."""
    lengths_B1 = batch.response_lengths_B[:, None].clamp(min=1)
    return policy_mask(batch) / lengths_B1.float(), float(_rows(batch).sum())


def token_mean(batch: TokenBatch) -> tuple[Tensor, float]:
    """Averages over all tokens of all responses (DAPO)."""
    mask_BT = policy_mask(batch)
    return mask_BT.float(), float(mask_BT.sum())


def sequence_sum(batch: TokenBatch, length: float) -> tuple[Tensor, float]:
    """Sums over a response's tokens, divides by a constant that no response influences, then averages over responses
    (Dr. GRPO; with ``length`` = 1 the gradient of REINFORCE)."""
    return policy_mask(batch) / length, float(_rows(batch).sum())


def _rows(batch: TokenBatch) -> Tensor:
    return torch.ones(batch.rows, dtype=torch.bool) if batch.policy_rows_B is None else batch.policy_rows_B
