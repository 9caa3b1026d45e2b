"""Anchors in the sharded learner: their gradient is that of autograd through the divergence, on one rank and on two.

Covered: anchors beside a penalty by exact divergence and by a score, cut into micro-batches and ranks that have none.
Not covered: where anchors come from; DeepSpeed, which runs the same update (``e2e/test_deepspeed.py``).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.algorithms import ALGORITHMS
from carerl.algorithms.grpo import GRPOConfig
from carerl.backends.learners.loop import LearnerLoop
from carerl.backends.learners.policy import Policy
from carerl.backends.learners.starting import in_memory
from carerl.config.schema import LearnerConfig
from carerl.loss.added import tokens_of
from carerl.loss.anchored import Anchor, anchor_rows, with_anchors
from carerl.loss.batching import Minibatch
from carerl.loss.objective import AnchorTerm, Objective
from carerl.records.vectors import TokenVectors
from carerl.regularizers import REGULARIZERS
from carerl.regularizers.srkl import SRKLConfig
from carerl.types import TokenBatch
from tests.backends.learners.ranks import on_ranks
from tests.backends.learners.test_fsdp2 import (
    ALPHA,
    BETA,
    EMPTY_RANK,
    MINIBATCHES,
    ReadGradient,
    batch,
    largest_relative_error,
    log_softmax_of_response,
    model,
    parts,
    plain_gradients,
)

WEIGHT = 2.5
ANCHORS = [Anchor((1, 2, 3 + n)[: 1 + n % 3], (4, 5, n, 7, 8)[: 1 + (3 * n) % 5]) for n in range(7)]


def rows_and_parts(cut: Any, alone: bool = False) -> tuple[TokenBatch, list[Minibatch]]:
    """The rows of the learner's other tests with seven anchors, whose reference is the same model. ``alone``: it has
    scored the anchors and nothing else."""
    own, shares = with_anchors(batch(torch.float64).with_streams(ref_hidden=None), ANCHORS, len(cut))
    policy = Policy(model(2, torch.float64).requires_grad_(False), 1000)
    rows = own.with_streams(ref_hidden=TokenVectors.whole(policy.hidden(own), own.response_lengths_B))
    if alone:
        added = sorted(anchor_rows(own))
        found = policy.hidden(own.select(added))
        rows = own.with_streams(ref_hidden=TokenVectors.of([(added, found)], own.response_lengths_B))
    minibatches = [
        replace(
            minibatch,
            rows=(*minibatch.rows, *share),
            normalisers=replace(minibatch.normalisers, anchor=tokens_of(own, share)),
        )
        for minibatch, share in zip(parts(batch(torch.float64), cut), shares, strict=True)
    ]
    return rows, minibatches


def gradients(
    estimator: str, micro: int, cut: Any, anchored: bool = True, beta: float = BETA, alone: bool = False
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    forward_kl = REGULARIZERS["fkl"].build(REGULARIZERS["fkl"].config())
    penalty = REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    anchor = AnchorTerm(WEIGHT, forward_kl.exact)
    objective = Objective(ALGORITHMS["grpo"].build(GRPOConfig()), penalty, beta, estimator, anchor=anchor)
    config = LearnerConfig(micro_batch_rows=micro, head_chunk_tokens=3, compute_dtype="float64")
    shards = ReadGradient(in_memory(model(1, torch.float64)), config, torch.device("cpu"))
    made = LearnerLoop(shards, config, objective)
    made.set_reference_head(model(2, torch.float64).get_output_embeddings().weight.detach())
    plain = batch(torch.float64)
    rows, minibatches = rows_and_parts(cut, alone) if anchored else (plain, parts(plain, cut))
    metrics = made.update(rows, minibatches, 1e-2, part_norms=alone)
    return shards.gradients, metrics


def of_anchors(rows: TokenBatch, share: list[int]) -> dict[str, Tensor]:
    """The gradient of WEIGHT · Σ r log(r/p) / tokens on some rows, by autograd, each row alone and unpadded."""
    network, reference = model(1, torch.float64), model(2, torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for row in share:
        logp_TV = log_softmax_of_response(network, row, rows)
        with torch.no_grad():
            logr_TV = log_softmax_of_response(reference, row, rows)
        total = total + (logr_TV.exp() * (logr_TV - logp_TV)).sum()
    (WEIGHT * total / max(int(rows.response_lengths_B[share].sum()), 1)).backward()
    return {f"model.{name}": parameter.grad.clone() for name, parameter in network.named_parameters()}


CASES = [("full", 2, MINIBATCHES), ("score", 3, MINIBATCHES), ("full", 5, EMPTY_RANK)]
UNPENALISED = ("score", 3, EMPTY_RANK, True, 0.0)


def all_that_two_ranks_are_asked() -> list[tuple[list[dict[str, Tensor]], dict[str, float]]]:
    return [*(gradients(*case) for case in CASES), gradients(*UNPENALISED, True)]


@pytest.fixture(scope="module")
def two_ranks() -> Any:
    return on_ranks(2, all_that_two_ranks_are_asked)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_gradient_is_the_divergences_own_on_one_rank_and_on_two(two_ranks: Any, number: int) -> None:
    estimator, _, cut = CASES[number]
    rows, minibatches = rows_and_parts(cut)
    plain = plain_gradients(torch.float64, estimator, cut)
    expected = []
    for minibatch, without in zip(minibatches, plain, strict=True):
        own = of_anchors(rows, [row for row in minibatch.rows if row >= 12])
        expected.append({name: gradient + own[name] for name, gradient in without.items()})
    alone = on_ranks(1, gradients, *CASES[number])
    for found, _ in (alone, two_ranks[number]):
        assert largest_relative_error(found, expected) < 1e-10
    assert largest_relative_error(alone[0], plain) > 0.01, "anchors have a gradient to be seen"
    assert alone[1] == pytest.approx(two_ranks[number][1], rel=1e-9)
    others = on_ranks(1, gradients, *CASES[number], False)[1]  # knows nothing of anchors, which are in no other metric
    assert {"rollout/mismatch_max", "train/entropy"} <= others.keys()
    changed = {name for name, value in others.items() if alone[1][name] != pytest.approx(value, rel=1e-9)}
    assert changed == {"train/loss"} and alone[1].keys() - others.keys() == {"anchor/loss", "anchor/divergence"}


@pytest.mark.slow
def test_a_reference_that_scored_anchors_alone_gives_the_same_gradient(two_ranks: Any) -> None:
    """Without a penalty nothing else of it is needed. Rows that it has not scored have no divergence to be reported."""
    whole, alone = (on_ranks(1, gradients, *UNPENALISED, only) for only in (False, True))
    assert largest_relative_error(alone[0], whole[0]) < 1e-12
    assert largest_relative_error(two_ranks[-1][0], whole[0]) < 1e-10
    assert alone[1]["anchor/divergence"] == pytest.approx(whole[1]["anchor/divergence"], rel=1e-12)
    assert {"regularizer/reverse_kl", "regularizer/log_ratio"} <= whole[1].keys() - alone[1].keys()
    assert alone[1]["train/grad_norm_anchor"] > 0, "every part has its norm"


def test_a_reference_on_the_ranks_is_asked_for_anchors_alone() -> None:
    whole, (found, asked) = on_ranks(1, gradients, *UNPENALISED, True), on_ranks(1, asked_on_the_rank)
    assert largest_relative_error(found, whole[0]) < 1e-12
    cut = UNPENALISED[2]
    anchors = [[row for row in minibatch.rows if row >= 12] for minibatch in rows_and_parts(cut)[1]]
    assert sorted(itertools.chain(*asked)) == sorted(itertools.chain(*anchors)) and len(asked) >= len(cut)


def asked_on_the_rank() -> tuple[list[dict[str, Tensor]], list[list[int]]]:
    """The gradients of a learner with a reference of its own, and the rows that it was asked for, by micro-batch."""
    rows, minibatches = rows_and_parts(UNPENALISED[2])
    policy = Policy(model(2, torch.float64).requires_grad_(False), 1000)
    prompts = [tuple(own.prompt_ids + own.response_ids) for own in ANCHORS]
    asked: list[list[int]] = []

    def add(part: TokenBatch) -> TokenBatch:
        ends_B = part.prompt_lengths_B + part.response_lengths_B
        texts = [tuple(ids[:end]) for ids, end in zip(part.input_ids_BS.tolist(), ends_B.tolist(), strict=True)]
        asked.append([12 + prompts.index(text) for text in texts])  # ValueError for a row that is no anchor
        return part.with_streams(ref_hidden=TokenVectors.whole(policy.hidden(part), part.response_lengths_B))

    fkl = REGULARIZERS["fkl"].build(REGULARIZERS["fkl"].config())
    penalty = REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    objective = Objective(
        ALGORITHMS["grpo"].build(GRPOConfig()), penalty, 0.0, "score", anchor=AnchorTerm(WEIGHT, fkl.exact)
    )
    config = LearnerConfig(micro_batch_rows=UNPENALISED[1], head_chunk_tokens=3, compute_dtype="float64")
    shards = ReadGradient(in_memory(model(1, torch.float64)), config, torch.device("cpu"))
    made = LearnerLoop(shards, config, objective)
    made.set_reference_head(model(2, torch.float64).get_output_embeddings().weight.detach())
    made.update(rows.with_streams(ref_hidden=None), minibatches, 1e-2, None, add, anchors_alone=True)
    return shards.gradients, asked


def test_anchors_that_the_reference_has_not_scored_are_an_error() -> None:
    rows, minibatches = rows_and_parts(MINIBATCHES)
    with pytest.raises(Exception, match="anchors need their exact divergence"):
        on_ranks(1, unscored, rows.with_streams(ref_hidden=None), minibatches)


def unscored(rows: TokenBatch, minibatches: list[Minibatch]) -> None:
    fkl = REGULARIZERS["fkl"].build(REGULARIZERS["fkl"].config())
    none = REGULARIZERS["none"].build(REGULARIZERS["none"].config())
    grpo = ALGORITHMS["grpo"].build(GRPOConfig())
    objective = Objective(grpo, none, 0.0, "score", anchor=AnchorTerm(WEIGHT, fkl.exact))
    config = LearnerConfig(micro_batch_rows=3, compute_dtype="float64")
    shards = ReadGradient(in_memory(model(1, torch.float64)), config, torch.device("cpu"))
    LearnerLoop(shards, config, objective).update(rows, minibatches, 1e-2)
