"""Fills in what an update does at the decisions of its samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from carerl.decisions import TARGETS, DecisionConfig, Target, bound
from carerl.types import Decision, Sample, TokenBatch


def with_decisions(batch: TokenBatch, samples: Sequence[Sample], config: DecisionConfig) -> TokenBatch:
    """Returns the batch with the streams of its rows' decisions. ``samples``: those of its rows, in order. Rows without
    a decision stay as they are.

    ``config.mask`` sets the advantage at a decision to 0, and ``regularize`` false the penalty's weight. A
    cross-entropy of weight 0 adds no stream. A decision without any right option has no target ``gold``, and is left
    out. Denominators are counted before this (:func:`carerl.loss.batching.plan`): a response is still divided by its
    whole length. That of the cross-entropy is the number of decisions, also where the bound switches some off.
    """
    found = {row: s.decision for row, s in enumerate(samples) if s.decision is not None}
    if config.target == "gold":
        found = {row: decision for row, decision in found.items() if set(decision.right) & set(decision.token_ids)}
    if not found:
        return batch
    positions_B = torch.full((batch.rows,), -1, dtype=torch.long)
    positions_B[list(found)] = torch.tensor([decision.position for decision in found.values()])
    at_BT = (torch.arange(batch.width)[None, :] == positions_B[:, None]) & batch.mask_BT
    streams: dict[str, torch.Tensor] = {}
    if config.mask and batch.advantages_BT is not None:
        streams["advantages_BT"] = batch.advantages_BT.masked_fill(at_BT, 0.0)
    if not config.regularize and batch.regularizer_weight_BT is not None:
        streams["regularizer_weight_BT"] = batch.regularizer_weight_BT.masked_fill(at_BT, 0.0)
    if config.weight > 0:
        streams["ce_weight_BT"] = config.weight * at_BT.float()
    if not streams:
        return batch
    most = max(len(decision.token_ids) for decision in found.values())
    ids_BK = torch.zeros(batch.rows, most, dtype=torch.long)
    targets_BK = torch.zeros(batch.rows, most)
    bounds_B = torch.zeros(batch.rows)
    for row, decision in found.items():
        aim, options = _target(decision, config.target), len(decision.token_ids)
        ids_BK[row, :options] = torch.tensor(list(decision.token_ids.values()))
        targets_BK[row, :options] = torch.tensor(aim.probabilities)
        bounds_B[row] = bound(aim, config.clamp)
    return batch.with_streams(
        decision_positions_B=positions_B,
        decision_ids_BK=ids_BK,
        decision_targets_BK=targets_BK,
        decision_bounds_B=bounds_B,
        **streams,
    )


def _target(decision: Decision, target: str) -> Target:
    labels = list(decision.token_ids)
    right = {labels.index(label) for label in decision.right if label in decision.token_ids}
    return TARGETS[target](labels.index(decision.chosen), right, len(labels))
