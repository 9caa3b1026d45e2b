"""Adds anchors to a step's batch: rows of prompts that no reward sees, held to the reference (:mod:`carerl.anchors`).

The anchor's part of the loss is weight · (1/N) Σ_rows Σ_t D_t, N the response tokens of the anchors of an optimizer
minibatch, over all ranks. An anchor's row has the stream ``anchor_weight`` and no other: it has no advantage, no place
in a group, no penalty, no entropy bonus and no log-probs of an engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from carerl.loss.packing import pack_rows
from carerl.types import TokenBatch

NOTHING = {"decision_positions_B": -1, "decision_bounds_B": -1.0}  # where 0 would mean something


@dataclass(frozen=True)
class Anchor:
    """Holds a prompt that is not rewarded and a response to it, both in token ids."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


def with_anchors(
    batch: TokenBatch, anchors: Sequence[Anchor], minibatches: int
) -> tuple[TokenBatch, list[tuple[int, ...]]]:
    """Returns the batch with a row for each anchor behind its own, and the anchors' rows of each of ``minibatches``
    optimizer steps. They are dealt one by one, so that the steps differ by at most one row. Without anchors the batch
    is returned as it is. Raises ValueError as :func:`pack_rows` does."""
    if not anchors:
        return batch, [()] * minibatches
    added = pack_rows([own.prompt_ids for own in anchors], [own.response_ids for own in anchors])
    rows, width = batch.rows + added.rows, max(batch.width, added.width)
    changes: dict[str, Any] = {
        name: _below(getattr(batch, name), getattr(added, name))
        for name in ("input_ids_BS", "prompt_lengths_B", "response_lengths_B")
    }
    for field in fields(batch):
        stream = getattr(batch, field.name)
        if field.name in changes or not isinstance(stream, Tensor):
            continue
        shape = (rows, width) if "_BT" in field.name else (rows, *stream.shape[1:])
        changes[field.name] = _placed(stream, shape, NOTHING.get(field.name, 0))
    weight_BT = torch.zeros(rows, width)
    weight_BT[batch.rows :, : added.width] = added.mask_BT.float()
    first = batch.rows
    shares = [tuple(range(first + k, rows, minibatches)) for k in range(minibatches)]
    return batch.with_streams(**changes, anchor_weight_BT=weight_BT), shares


def anchor_tokens(batch: TokenBatch, rows: Sequence[int]) -> float:
    """Counts the response tokens of anchors' rows; returns at least 1."""
    return max(float(batch.response_lengths_B[list(rows)].sum()), 1.0)


def anchor_rows(batch: TokenBatch) -> set[int]:
    """Returns the rows of anchors."""
    if batch.anchored_BT is None:
        return set()
    return set(torch.nonzero(batch.anchored_BT.any(dim=1))[:, 0].tolist())


def _below(upper: Tensor, lower: Tensor) -> Tensor:
    """Puts the rows of one table below those of another, padded with 0 to one width."""
    if upper.dim() == 1:
        return torch.cat([upper, lower])
    width = max(upper.shape[1], lower.shape[1])
    return torch.cat([_placed(part, (len(part), width), 0) for part in (upper, lower)])


def _placed(values: Tensor, shape: Sequence[int], fill: float) -> Tensor:
    """Returns a larger tensor with these values in its first corner, and ``fill`` elsewhere."""
    found = values.new_full(tuple(shape), fill)
    found[tuple(slice(size) for size in values.shape)] = values
    return found
