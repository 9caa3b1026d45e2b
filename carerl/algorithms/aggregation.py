"""How tokens and sequences are weighted in the policy term: a weight per token and one global denominator.

The weight is local to a row and the denominator is counted over the whole optimizer minibatch, before it is
cut into micro-batches or spread over ranks; padding appears in neither.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from carerl.types import TokenBatch


class Aggregation(Protocol):
    def __call__(self, batch: TokenBatch) -> tuple[Tensor, float]:
        """Weights (B, T) float32, 0 beyond each response, and the denominator of these rows."""
        ...


def sequence_mean(batch: TokenBatch) -> tuple[Tensor, float]:
    """The mean over a response's tokens, then over responses (GRPO). An empty response has no tokens to
    weigh but counts as a response."""
    lengths_B1 = batch.response_lengths_B[:, None].clamp(min=1)
    return batch.mask_BT / lengths_B1.float(), float(batch.rows)
