"""Adds anchors to a step's batch: rows of prompts that no reward sees, held to the reference (:mod:`carerl.anchors`).

The anchor's part of the loss is weight · (1/N) Σ_rows Σ_t D_t, N the response tokens of the anchors of an optimizer
minibatch, over all ranks. An anchor's row has the stream ``anchor_weight`` and no other (:mod:`carerl.loss.added`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from carerl.loss.added import with_rows
from carerl.types import TokenBatch


@dataclass(frozen=True)
class Anchor:
    """Holds a prompt that is not rewarded and a response to it, both in token ids."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


def with_anchors(
    batch: TokenBatch, anchors: Sequence[Anchor], minibatches: int
) -> tuple[TokenBatch, list[tuple[int, ...]]]:
    """Returns the batch with a row for each anchor behind its own, and the anchors' rows of each of ``minibatches``
    optimizer steps, see :func:`carerl.loss.added.with_rows`."""
    return with_rows(batch, anchors, "anchor_weight_BT", 1.0, minibatches)


def anchor_rows(batch: TokenBatch) -> set[int]:
    """Returns the rows of anchors."""
    if batch.anchored_BT is None:
        return set()
    return set(torch.nonzero(batch.anchored_BT.any(dim=1))[:, 0].tolist())
