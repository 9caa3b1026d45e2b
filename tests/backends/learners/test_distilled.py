"""Traces and weights of responses in the sharded learner: the gradient is autograd's, on one rank and on two.

Covered: beside anchors and a penalty, in micro-batches of any size, with ranks that have no trace or no row at all.
Not covered: where traces and weights come from; DeepSpeed, which runs the same update (``e2e/test_deepspeed.py``).
"""

from __future__ import annotations

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
from carerl.loss.anchored import with_anchors
from carerl.loss.batching import Minibatch
from carerl.loss.distilled import Hybrid, Trace, weighed, with_traces
from carerl.loss.objective import AnchorTerm, Objective
from carerl.records.vectors import TokenVectors
from carerl.regularizers import REGULARIZERS
from carerl.regularizers.srkl import SRKLConfig
from carerl.types import TokenBatch
from tests.backends.learners.ranks import on_ranks
from tests.backends.learners.test_anchors import ANCHORS, WEIGHT, of_anchors
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
    old_logprobs,
    parts,
    plain_loss,
)

TRACE_WEIGHT = 0.375  # a sum of powers of 2: nothing is rounded
SAMPLE_WEIGHTS = [0.0, 0.5, 1.0, 0.25, 0.0, 0.75, 1.0, 0.0, 0.125, 1.0, 0.875, 0.5]
TRACES = [Trace((2, 3, 1 + n)[: 1 + n % 3], (6, n, 5, 11, 12, 9, 8)[: 1 + (2 * n) % 7]) for n in range(5)]
LIMIT = 1e-10


def rows_and_parts(cut: Any, traces: int) -> tuple[TokenBatch, list[Minibatch]]:
    """Rows 0 to 11 of the learner's other tests with weights, then seven anchors, then so many traces."""
    plain = batch(torch.float64).with_streams(ref_hidden=None)
    own, anchored = with_anchors(weighed(plain, SAMPLE_WEIGHTS), ANCHORS, len(cut))
    own, distilled = with_traces(own, Hybrid(TRACES[:traces], TRACE_WEIGHT), len(cut))
    policy = Policy(model(2, torch.float64).requires_grad_(False), 1000)
    rows = own.with_streams(ref_hidden=TokenVectors.whole(policy.hidden(own), own.response_lengths_B))
    minibatches = [
        replace(
            minibatch,
            rows=(*minibatch.rows, *share, *learned),
            normalisers=replace(minibatch.normalisers, anchor=tokens_of(own, share), ce=tokens_of(own, learned)),
        )
        for minibatch, share, learned in zip(parts(plain, cut), anchored, distilled, strict=True)
    ]
    return rows, minibatches


def gradients(
    estimator: str, micro: int, cut: Any, traces: int = len(TRACES)
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    anchor = AnchorTerm(WEIGHT, REGULARIZERS["fkl"].build(REGULARIZERS["fkl"].config()).exact)
    penalty = REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    objective = Objective(ALGORITHMS["grpo"].build(GRPOConfig()), penalty, BETA, estimator, anchor=anchor)
    config = LearnerConfig(micro_batch_rows=micro, head_chunk_tokens=3, compute_dtype="float64")
    shards = ReadGradient(in_memory(model(1, torch.float64)), config, torch.device("cpu"))
    made = LearnerLoop(shards, config, objective)
    made.set_reference_head(model(2, torch.float64).get_output_embeddings().weight.detach())
    metrics = made.update(*rows_and_parts(cut, traces), 1e-2)
    return shards.gradients, metrics


def of_traces(rows: TokenBatch, share: list[int]) -> dict[str, Tensor]:
    """The gradient of TRACE_WEIGHT · Σ −log p / tokens, by autograd, each row alone and unpadded."""
    network = model(1, torch.float64)
    total = 0.0 * sum(parameter.sum() for parameter in network.parameters())
    for row in share:
        start, length = int(rows.prompt_lengths_B[row]), int(rows.response_lengths_B[row])
        ids = rows.input_ids_BS[row, start : start + length]
        total = total - log_softmax_of_response(network, row, rows).gather(1, ids[:, None]).sum()
    (TRACE_WEIGHT * total / max(int(rows.response_lengths_B[share].sum()), 1)).backward()
    return {f"model.{name}": parameter.grad.clone() for name, parameter in network.named_parameters()}


def expected(estimator: str, cut: Any) -> list[dict[str, Tensor]]:
    """The plain implementation's. It knows no weights, but a weight w >= 0 of a response's clipped term is an
    advantage w times as large: min(r w A, clip(r) w A) = w min(r A, clip(r) A)."""
    network, reference, plain = model(1, torch.float64), model(2, torch.float64), batch(torch.float64)
    assert plain.advantages_BT is not None
    weight_B = torch.tensor(SAMPLE_WEIGHTS, dtype=torch.float64)
    scaled = plain.with_streams(advantages_BT=plain.advantages_BT * weight_B[:, None])
    old = old_logprobs(network, plain)
    rows, minibatches = rows_and_parts(cut, len(TRACES))
    found = []
    for part, minibatch in zip(cut, minibatches, strict=True):
        network.zero_grad()
        plain_loss(network, reference, scaled, part, old, estimator).backward()
        anchors = of_anchors(rows, [row for row in minibatch.rows if 12 <= row < 12 + len(ANCHORS)])
        traces = of_traces(rows, [row for row in minibatch.rows if row >= 12 + len(ANCHORS)])
        own = {f"model.{name}": parameter.grad for name, parameter in network.named_parameters()}
        found.append({name: gradient + anchors[name] + traces[name] for name, gradient in own.items()})
    return found


CASES = [("full", 1, MINIBATCHES), ("score", 3, MINIBATCHES), ("full", 100, EMPTY_RANK)]


def all_that_two_ranks_are_asked() -> list[tuple[list[dict[str, Tensor]], dict[str, float]]]:
    return [gradients(*case) for case in CASES]


@pytest.fixture(scope="module")
def two_ranks() -> Any:
    return on_ranks(2, all_that_two_ranks_are_asked)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_gradient_is_autograds_on_one_rank_and_on_two(two_ranks: Any, number: int) -> None:
    estimator, micro, cut = CASES[number]
    wanted = expected(estimator, cut)
    sizes = (1, 3, 100) if number == 0 else (micro,)
    alone = [on_ranks(1, gradients, estimator, size, cut) for size in sizes]
    for found, metrics in (*alone, two_ranks[number]):
        assert largest_relative_error(found, wanted) < LIMIT
        assert metrics == pytest.approx(alone[0][1], rel=1e-9)
    without, others = on_ranks(1, gradients, *CASES[number], 0)  # knows nothing of traces
    assert largest_relative_error(without, wanted) > 0.01, "traces have a gradient to be seen"
    metrics = alone[0][1]
    assert {"rollout/mismatch_max", "rollout/effective_sample_size", "train/entropy"} <= others.keys()
    changed = {name for name, value in others.items() if metrics[name] != pytest.approx(value, rel=1e-9)}
    assert changed == {"train/loss"} and metrics.keys() - others.keys() == {
        "train/ce_loss",
        "distillation/cross_entropy",
    }


def test_no_pass_is_made_for_log_probs_that_anchors_and_traces_do_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of later minibatches are scored before the first step; what no reward sees has no ratio to be scored
    for."""
    scored: set[int] = set()
    fill_old = LearnerLoop._fill_old

    def recorded(self: LearnerLoop, rows: TokenBatch, mine: list[list[int]], *rest: Any) -> None:
        scored.update(row for share in mine for row in share)
        fill_old(self, rows, mine, *rest)

    monkeypatch.setattr(LearnerLoop, "_fill_old", recorded)
    on_ranks(1, gradients, *CASES[0])
    assert scored == set(MINIBATCHES[1])
