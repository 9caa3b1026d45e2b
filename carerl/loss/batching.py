"""Plans an update: turns graded groups into the streams that the learner sums over."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carerl.algorithms.aggregation import policy_mask
from carerl.algorithms.base import Algorithm
from carerl.decisions import DecisionConfig
from carerl.loss.added import added_rows, tokens_of
from carerl.loss.anchored import Anchor, anchor_rows, with_anchors
from carerl.loss.decided import with_decisions
from carerl.loss.distilled import Hybrid, weighed, with_traces
from carerl.loss.packing import pack_rows
from carerl.seeds import derived_seed
from carerl.types import Group, Sample, TokenBatch

from .strata import strata


@dataclass(frozen=True)
class Normalisers:
    """Denominators of the loss's components, counted over an optimizer minibatch and all ranks.

    Each is 1 where there is nothing to count. All but ``policy`` count tokens whose weight is not 0, so that a weight
    keeps its scale.
    """

    policy: float
    """What the algorithm's aggregation counts: sequences or tokens."""

    regularizer: float
    """All response tokens, unless the algorithm drops groups: then the tokens of the others. A weight of 1/|y| would
    depend on the response and bias the score estimator."""

    ce: float
    """Tokens with a cross-entropy weight; where traces are learned, all of theirs. A corpus that normalises its own
    weights passes 1 instead."""

    entropy: float = 1.0
    """The tokens of the policy term."""

    anchor: float = 1.0
    """The tokens of anchors."""


@dataclass(frozen=True)
class Minibatch:
    """The rows of one optimizer step with the global counts of those rows, over all ranks."""

    rows: tuple[int, ...]
    normalisers: Normalisers


@dataclass(frozen=True)
class StepBatch:
    """Holds what a step of the loop trains on: its rows, and the optimizer steps over them."""

    batch: TokenBatch
    minibatches: list[Minibatch]
    empty: int
    """How many minibatches were left out because none of their rows takes part in the loss."""

    @property
    def tokens(self) -> int:
        """Response tokens that the optimizer steps train, each as often as it is trained, those of anchors and traces
        included."""
        lengths_B = self.batch.response_lengths_B
        trained_B = rows_with_weight(self.batch)
        trained_B[sorted(anchor_rows(self.batch))] = True
        return sum(int(lengths_B[rows][trained_B[rows]].sum()) for rows in (list(m.rows) for m in self.minibatches))

    def tokens_of(self, rows: Collection[int]) -> tuple[int, int]:
        """Counts the response tokens of some rows: each row once, and each as often as it is trained."""
        lengths_B = self.batch.response_lengths_B
        dealt = [row for minibatch in self.minibatches for row in minibatch.rows if row in rows]
        return int(lengths_B[sorted(rows)].sum()), int(lengths_B[dealt].sum())

    @property
    def takes_part_B(self) -> Tensor:
        """(B,) bool: rows of groups that take part in the loss, see :func:`rows_with_weight`."""
        found_B = rows_with_weight(self.batch)
        found_B[sorted(added_rows(self.batch))] = False
        return found_B


def plan(
    groups: Sequence[Group],
    algorithm: Algorithm,
    temperature: float,
    seed: int,
    step: int,
    decision: DecisionConfig | None = None,
    anchors: Sequence[Anchor] = (),
    hybrid: Hybrid | None = None,
) -> StepBatch:
    """Plans the update of a step: the rows of its graded groups, dealt to the optimizer steps of every epoch.

    ``decision``: what is done at the samples' decisions; None for nothing. ``anchors``: prompts and responses that are
    not rewarded; their rows follow those of the groups and are dealt evenly to the optimizer steps of every epoch.
    ``hybrid``: traces, whose rows come last and are dealt in the same way, and weights of the groups' samples.
    ``seed`` is the run's. It decides, with ``step`` and the epoch, how groups are shuffled. A minibatch in which every
    row was dropped and no trace has a weight is left out, with its anchors: a step along a gradient of 0 would still
    move the weights, by the optimizer's momentum. That is all that is left out: a step is taken
    also where the gradient is 0 because all advantages, or all weights of samples, are.
    Raises ValueError as :func:`make_batch`, :func:`minibatches` and :func:`weighed` do, and for traces beside trained
    decisions: both are a cross-entropy, which has one denominator.
    """
    hybrid = hybrid or Hybrid((), 0.0)
    batch = whole = make_batch(groups, algorithm, temperature)
    if decision is not None and decision.trains:
        if hybrid.traces:
            raise ValueError("a step learns traces or decisions: their cross-entropy has one denominator")
        batch = with_decisions(whole, [sample for group in groups for sample in group.samples], decision)
    batch = weighed(batch, hybrid.sample_weights)
    parts = [
        part
        for epoch in range(algorithm.epochs)
        for part in minibatches(
            batch.rows,
            len(groups[0].samples),
            algorithm.minibatches,
            seed=derived_seed(seed, step * algorithm.epochs + epoch),
        )
    ]
    # Without what is done at decisions: a penalty that is off there must not grow at the other tokens.
    counted = whole.with_streams(ce_weight_BT=batch.ce_weight_BT)
    batch, anchored = with_anchors(batch, anchors, algorithm.minibatches)
    batch, distilled = with_traces(batch, hybrid, algorithm.minibatches)
    with_weight_B = rows_with_weight(batch)
    kept = []
    for part, own, traces in zip(parts, itertools.cycle(anchored), itertools.cycle(distilled)):
        if not with_weight_B[[*part, *traces]].any():
            continue
        counts = replace(normalisers(counted.select(part), algorithm), anchor=tokens_of(batch, own))
        if traces:
            counts = replace(counts, ce=tokens_of(batch, traces))
        kept.append(Minibatch((*part, *own, *traces), counts))
    return StepBatch(batch, kept, len(parts) - len(kept))


def plan_supervised(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> StepBatch:
    """Plans one optimizer step of cross-entropy on responses, the mean over all of their tokens. ``pairs``: prompt and
    response of each row. Raises ValueError as :func:`pack_rows` does."""
    batch = pack_rows([prompt for prompt, _ in pairs], [response for _, response in pairs])
    batch = batch.with_streams(ce_weight_BT=batch.mask_BT.float())
    counts = Normalisers(policy=1.0, regularizer=1.0, ce=_weighted(batch.ce_weight_BT, batch))
    return StepBatch(batch, [Minibatch(tuple(range(batch.rows)), counts)], empty=0)


def make_batch(groups: Sequence[Group], algorithm: Algorithm, temperature: float) -> TokenBatch:
    """Makes the rows of all groups, in their order, with advantages, weights and the engine's log-probs.

    Advantages are computed in float64 and stored in float32, one number on all tokens of a response. Groups without
    variance keep their rows: their advantage is 0, but their regularizer and their part of the denominators stay. Only
    an algorithm with ``drop_uniform_groups`` drops groups that are all correct or all not.

    Two things take a sample out of the policy term: weights of 0 (the algorithm's ``update``), which denominators do
    not follow, and ``policy_rows_B``, which they do.

    Raises ValueError if a sample has no reward, or not one log-prob for each token; if a reward is not finite; if
    groups differ in size; or if groups are dropped by outcome and a sample has no outcome.
    """
    samples = [sample for group in groups for sample in group.samples]
    if len({len(group.samples) for group in groups}) != 1:
        raise ValueError("there are no groups, or they differ in size")
    for sample in samples:
        if sample.reward is None:
            raise ValueError(f"a sample of {sample.example_id} has no reward")
        if len(sample.rollout_logprobs) != len(sample.response_ids):
            raise ValueError(
                f"a sample of {sample.example_id} has {len(sample.response_ids)} tokens "
                f"and {len(sample.rollout_logprobs)} log-probs"
            )
    batch = pack_rows(
        [group.example.prompt_ids for group in groups for _ in group.samples],
        [sample.response_ids for sample in samples],
        temperature,
    )
    mask_BT = batch.mask_BT
    rewards = [_shaped_reward(sample, algorithm) for sample in samples]
    rewards_PG = torch.tensor(rewards, dtype=torch.float64).reshape(len(groups), -1)
    advantages_B = algorithm.advantages(rewards_PG).reshape(-1).float()
    kept_B = torch.ones(len(samples), dtype=torch.bool)
    if algorithm.drop_uniform_groups:
        kept_B = informative(groups).repeat_interleave(rewards_PG.shape[1])
    policy_rows_B = kept_B
    if algorithm.mask_truncated:
        policy_rows_B = kept_B & ~torch.tensor([sample.truncated for sample in samples])
    batch = batch.with_streams(policy_rows_B=policy_rows_B)
    weight_BT, _ = algorithm.aggregation(batch)
    if algorithm.update != "full":
        positive_B1 = advantages_B[:, None] > 0  # an advantage of 0 is in the other half
        weight_BT = weight_BT * (positive_B1 if algorithm.update == "positive" else ~positive_B1)
    rollout_BT = torch.zeros(mask_BT.shape)
    rollout_BT[mask_BT] = torch.tensor([lp for s in samples for lp in s.rollout_logprobs], dtype=torch.float32)
    return batch.with_streams(
        advantages_BT=advantages_B[:, None] * mask_BT,
        policy_weight_BT=weight_BT,
        regularizer_weight_BT=(mask_BT & kept_B[:, None]).float(),
        entropy_weight_BT=policy_mask(batch).float() if algorithm.entropy_bonus or algorithm.entropy_target else None,
        rollout_logprobs_BT=rollout_BT,
        strata_BM=strata(samples),
    )


def informative(groups: Sequence[Group]) -> Tensor:
    """Returns (P,) bool: True for groups with both correct and other outcomes.

    It judges by the grader's outcome of what is rewarded, because a shaped reward differs even within groups that have
    nothing to teach.
    Raises ValueError for a sample without outcome.
    """
    if any(sample.outcome is None for group in groups for sample in group.samples):
        raise ValueError("groups are kept or dropped by outcome, and a sample has not been graded")
    correct = [sum(sample.rewarded for sample in group.samples) for group in groups]
    return torch.tensor([0 < n < len(group.samples) for n, group in zip(correct, groups, strict=True)])


def _shaped_reward(sample: Sample, algorithm: Algorithm) -> float:
    """Returns the reward that advantages are made from. The sample keeps its own."""
    assert sample.reward is not None
    extra = 0.0 if algorithm.length_reward is None else algorithm.length_reward(len(sample.response_ids))
    return sample.reward + extra


def normalisers(rows: TokenBatch, algorithm: Algorithm) -> Normalisers:
    """Counts the denominators of one optimizer minibatch. Takes *all* of its rows, before they are spread over ranks
    and micro-batches."""
    _, policy = algorithm.aggregation(rows)
    weights = (rows.regularizer_weight_BT, rows.ce_weight_BT, rows.entropy_weight_BT)
    return Normalisers(max(policy, 1.0), *(_weighted(weight_BT, rows) for weight_BT in weights))


def rows_with_weight(rows: TokenBatch) -> Tensor:
    """Returns (B,) bool: True for rows with a token that takes part in a component of the loss.

    Weights decide, not what they multiply: a row whose advantage is 0 takes part.
    """
    found_B = torch.zeros(rows.rows, dtype=torch.bool)
    for weight_BT in (rows.policy_weight_BT, rows.regularizer_weight_BT, rows.entropy_weight_BT, rows.ce_weight_BT):
        if weight_BT is not None:
            found_B |= (weight_BT != 0).any(dim=1)
    return found_B


def _weighted(weight_BT: Tensor | None, rows: TokenBatch) -> float:
    """Counts the response tokens whose weight is not 0; returns at least 1."""
    return 1.0 if weight_BT is None else max(float((weight_BT[rows.mask_BT] != 0).sum()), 1.0)


def minibatches(rows: int, group_size: int, count: int, seed: int) -> list[list[int]]:
    """Returns the row indices of ``count`` minibatches: whole groups, shuffled by ``seed``, every row exactly once.

    Rows must come group by group, as :func:`make_batch` makes them. Raises ValueError if the groups cannot be dealt out
    evenly.
    """
    groups = rows // group_size
    if groups * group_size != rows or groups % count:
        raise ValueError(f"{rows} rows in groups of {group_size} do not divide into {count} minibatches")
    order = torch.randperm(groups, generator=torch.Generator().manual_seed(seed)).tolist()
    share = groups // count
    return [
        [group * group_size + k for group in order[part * share : (part + 1) * share] for k in range(group_size)]
        for part in range(count)
    ]
