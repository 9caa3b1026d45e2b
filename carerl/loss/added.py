"""Adds rows to a step's batch that stand in no group: anchors (``anchored``) and traces (``distilled``).

No reward sees such a row. It has one weight of its own and no other stream: no advantage, no penalty, no entropy bonus
and no log-probs of an engine. ``TokenBatch.added_B`` says which rows they are, also where their weight is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol

import torch
from torch import Tensor

from carerl.loss.packing import pack_rows
from carerl.types import TokenBatch

NOTHING = {"decision_positions_B": -1, "decision_bounds_B": -1.0}  # where 0 would mean something


class Row(Protocol):
    """Holds a prompt that is not rewarded and a response to it, both in token ids."""

    @property
    def prompt_ids(self) -> tuple[int, ...]: ...
    @property
    def response_ids(self) -> tuple[int, ...]: ...


def with_rows(
    batch: TokenBatch, rows: Sequence[Row], stream: str, weight: float, minibatches: int
) -> tuple[TokenBatch, list[tuple[int, ...]]]:
    """Returns the batch with the given rows behind its own, and those of each of ``minibatches`` optimizer steps. They
    are dealt one by one, so that the steps differ by at most one row. Without rows the batch is returned as it is.

    ``stream``: the name of the one that has ``weight`` on their tokens. Their temperature is the batch's. Raises
    ValueError as :func:`pack_rows` does.
    """
    if not rows:
        return batch, [()] * minibatches
    added = pack_rows([own.prompt_ids for own in rows], [own.response_ids for own in rows])
    first, shape = batch.rows, (batch.rows + added.rows, max(batch.width, added.width))
    changes: dict[str, Any] = {
        name: _below(getattr(batch, name), getattr(added, name))
        for name in ("input_ids_BS", "prompt_lengths_B", "response_lengths_B")
    }
    for field in fields(batch):
        values = getattr(batch, field.name)
        if field.name in changes or not isinstance(values, Tensor):
            continue
        size = shape if "_BT" in field.name else (shape[0], *values.shape[1:])
        changes[field.name] = _placed(values, size, NOTHING.get(field.name, 0))
    added_B = changes.setdefault("added_B", torch.zeros(shape[0], dtype=torch.bool))
    weight_BT = changes.setdefault(stream, torch.zeros(shape))
    added_B[first:] = True
    weight_BT[first:, : added.width] = weight * added.mask_BT
    shares = [tuple(range(first + k, shape[0], minibatches)) for k in range(minibatches)]
    return batch.with_streams(**changes), shares


def tokens_of(batch: TokenBatch, rows: Sequence[int]) -> float:
    """Counts the response tokens of some rows, whatever their weight; returns at least 1."""
    return max(float(batch.response_lengths_B[list(rows)].sum()), 1.0)


def added_rows(batch: TokenBatch) -> set[int]:
    """Returns the rows that stand in no group."""
    return set() if batch.added_B is None else set(torch.nonzero(batch.added_B)[:, 0].tolist())


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
