"""Adds distillation to a step of RL: traces that are learned beside the responses, and a weight for each response.

The loss of an optimizer minibatch is

    (1/M) Σ_i w_i · policy term_i + … + λ v · (1/N) Σ_traces Σ_t −log p(y_t)

with M the algorithm's own denominator and N the response tokens of the minibatch's traces, over all ranks. Both are
counted whatever the weights are: a response or a trace of weight 0 adds nothing, and the others count as before. [ours]

1. w_i multiplies the policy term alone. Advantages are made before, so no weight enters a group's mean or standard
   deviation; penalty and entropy bonus stay whole. A penalty in the reward would be part of the advantage, and weighed
   too: a run is refused both.
2. A trace's row has the stream ``ce_weight`` and no other (:mod:`carerl.loss.added`). Its log-probs are at the
   sampling temperature, as those of all rows of the batch are.
3. Weights are numbers that the caller has computed: no gradient goes through them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from carerl.loss.added import with_rows
from carerl.types import TokenBatch


@dataclass(frozen=True)
class Trace:
    """Holds a question and a solution of it that is learned, both in token ids."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


@dataclass(frozen=True)
class Hybrid:
    """Holds what a step of RL learns from traces, and how it weighs its own responses. Raises ValueError for a weight
    that is negative or not finite."""

    traces: Sequence[Trace]
    trace_weight: float
    """λ · v: multiplies the mean cross-entropy over the tokens of the traces."""

    sample_weights: Sequence[float] | None = None
    """w_i of each response, in the order of the groups' samples; None weighs all of them 1."""

    def __post_init__(self) -> None:
        for weight in (self.trace_weight, *(self.sample_weights or ())):
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"a weight of {weight}: weights of traces and responses are finite and at least 0")


def with_traces(batch: TokenBatch, hybrid: Hybrid, minibatches: int) -> tuple[TokenBatch, list[tuple[int, ...]]]:
    """Returns the batch with a row for each trace behind its own, and the traces' rows of each of ``minibatches``
    optimizer steps, see :func:`carerl.loss.added.with_rows`."""
    return with_rows(batch, hybrid.traces, "ce_weight_BT", hybrid.trace_weight, minibatches)


def weighed(batch: TokenBatch, weights: Sequence[float] | None) -> TokenBatch:
    """Returns the batch with each row's policy term multiplied by its weight; None leaves the batch as it is. Raises
    ValueError unless there is one weight for each row, and for a batch without a policy term."""
    if weights is None:
        return batch
    if batch.policy_weight_BT is None or len(weights) != batch.rows:
        raise ValueError(f"{len(weights)} weights for {batch.rows} responses with a policy term")
    weight_B = torch.tensor(list(weights), dtype=batch.policy_weight_BT.dtype)
    return batch.with_streams(policy_weight_BT=batch.policy_weight_BT * weight_B[:, None])
