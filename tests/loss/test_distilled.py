"""Distillation in the loss: rows of traces beside groups of responses, and responses with weights.

Not covered: two ranks (``backends/learners/test_distilled.py``); where traces and weights come from.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.decisions import DecisionConfig
from carerl.loss.anchored import anchor_rows
from carerl.loss.batching import StepBatch, plan, plan_supervised
from carerl.loss.distilled import Hybrid, Trace, weighed, with_traces
from carerl.loss.objective import Objective, Strengths
from carerl.loss.packing import pack_rows
from carerl.loss.streams import flatten
from carerl.loss.tally import ObjectiveOutput
from carerl.types import Outcome, TokenBatch
from tests.loss.batches import Toy, algorithm, groups, objective, positions, streams_of
from tests.loss.test_anchored import ANCHORS, term

TRACES = [
    Trace((3, 1), (2, 7, 7, 1, 0, 4, 4, 9)),  # longer than every response
    Trace((5,), (6,)),
    Trace((9, 9, 2, 4), (0, 0, 3)),
    Trace((8, 1), (10, 2, 5, 5)),
]
TOKENS = 8 + 1 + 3 + 4
WEIGHTS = [0.5, 0.0, 1.0, 0.25, 0.0, 0.0, 2.0, 0.75, 1.0, 0.1, 0.9, 0.0]
METHODS = ("grpo", "gspo", "dapo", "rloo")


def hybrid(weight: float = 0.375, weights: list[float] | None = None, traces: list[Trace] = TRACES) -> Hybrid:
    return Hybrid(traces, weight, weights)


def planned(name: str = "grpo", temperature: float = 1.0, minibatches: int = 1, **more: Any) -> StepBatch:
    return plan(groups(), algorithm(name, minibatches=minibatches), temperature, 5, 7, **more)


def trained(
    made: StepBatch,
    target: Objective,
    ref: Toy | None = None,
    rows: list[int] | None = None,
    number: int = 0,
    strengths: Strengths | None = None,
) -> tuple[Tensor, ObjectiveOutput]:
    """Gradient and metrics of an optimizer step, or of some of its rows, by a model that did not sample them."""
    model, minibatch = Toy(seed=1), made.minibatches[number]
    batch = made.batch.select(list(minibatch.rows) if rows is None else rows)
    if ref is not None:
        batch = batch.with_streams(ref_logprobs_BT=streams_of(batch, ref.statistics(batch).logprobs_N))
    stats = model.statistics(batch, 3, ref, target.exact, target.anchor_exact)
    out = target(stats, flatten(batch), minibatch.normalisers, strengths)
    out.loss.backward()
    return model.gradient(), out


def same(one: TokenBatch, other: TokenBatch, but: tuple[str, ...] = ()) -> bool:
    """Whether two batches are equal to the last bit, but for some streams."""
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.name not in but]
    return all(torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b for a, b in pairs)


# ---- traces


@pytest.mark.parametrize("weight", [1.0, 0.1])
@pytest.mark.parametrize("name", METHODS)
def test_traces_alone_are_fine_tuning(name: str, weight: float) -> None:
    """With responses of weight 0 the gradient is that of cross-entropy, at the temperature of fine-tuning."""
    made = planned(name, hybrid=hybrid(weight, [0.0] * 12))
    found, out = trained(made, objective(policy=algorithm(name)))
    fine, alone = trained(
        plan_supervised([(trace.prompt_ids, trace.response_ids) for trace in TRACES]), Objective.supervised()
    )
    assert float((found - weight * fine).norm() / (weight * fine).norm()) < 1e-7
    assert out.shares["train/ce_loss"] == pytest.approx(weight * alone.shares["train/ce_loss"], rel=1e-7)
    assert out.shares["train/policy_loss"] == 0


def test_the_log_probs_of_traces_are_at_the_sampling_temperature() -> None:
    made = planned(temperature=0.7, hybrid=hybrid(weights=[0.0] * 12))
    found, _ = trained(made, objective())
    model, own = Toy(seed=1), pack_rows([t.prompt_ids for t in TRACES], [t.response_ids for t in TRACES])
    rows, columns = positions(own)
    logprobs_NV = torch.log_softmax(model.hidden(own) @ model.head_VD.T / 0.7, dim=-1)
    loss = -logprobs_NV.gather(-1, own.input_ids_BS[rows, columns][:, None]).sum() * 0.375 / TOKENS
    loss.backward()
    torch.testing.assert_close(found, model.gradient(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "penalty", [("none", 0.0, "score"), ("srkl", 0.8, "score"), ("srkl", 0.8, "full"), ("fkl", 0.5, "full")], ids=str
)
def test_traces_add_their_own_gradient_and_are_in_no_other_metric(penalty: tuple[str, float, str]) -> None:
    """Beside a policy term, a penalty, an entropy bonus and the correction for engines that disagree."""
    method = algorithm(mismatch_cap=30.0, mismatch_correction="sequence_mask", entropy_bonus=0.02, minibatches=1)
    ref, target = Toy(seed=2), objective(*penalty, policy=method)
    made = groups()
    for number, sample in enumerate(sample for group in made for sample in group.samples):
        sample.confidence = number / 12  # for the strata
    without, with_them = (plan(made, method, 0.8, 5, 7, hybrid=own) for own in (None, hybrid()))
    usual, before = trained(without, target, ref)
    alone, _ = trained(with_them, objective(policy=method), rows=[12, 13, 14, 15])
    found, out = trained(with_them, target, ref)
    torch.testing.assert_close(found, usual + alone, rtol=1e-12, atol=1e-14)
    assert float(alone.norm()) > 0.01 * float(usual.norm())
    near = {name: pytest.approx(value, rel=1e-12, abs=1e-15) for name, value in before.sums.items()}
    beside = out.sums.pop("distillation/cross_entropy")
    assert beside[1] == TOKENS and beside[0] / TOKENS == pytest.approx(out.shares["train/ce_loss"] / 0.375, rel=1e-12)
    assert out.sums == near and "train/entropy_right" in near and 0 < before.sums["train/mismatch_masked"][0] < 33
    shares = {name: value for name, value in out.shares.items() if name != "train/ce_loss"}
    assert shares.keys() == before.shares.keys()
    assert {name for name in shares if shares[name] != pytest.approx(before.shares[name], rel=1e-12, abs=1e-15)} == {
        "train/loss"
    }


@pytest.mark.parametrize("weight", [1.0, 0.01])
def test_the_cross_entropy_of_traces_is_reported_without_its_weight(weight: float) -> None:
    """And that of nothing else is: no decision's, and no finetuned response's."""
    _, out = trained(planned(hybrid=hybrid(weight)), objective())
    alone = plan_supervised([(trace.prompt_ids, trace.response_ids) for trace in TRACES])
    _, fine = trained(alone, Objective.supervised())
    total, count = out.sums["distillation/cross_entropy"]
    assert count == TOKENS and total / count == pytest.approx(fine.shares["train/ce_loss"], rel=1e-12)
    assert "distillation/cross_entropy" not in fine.sums
    assert out.shares["train/ce_loss"] == pytest.approx(weight * total / count, rel=1e-7)


def test_tokens_of_rows_are_counted_once_and_as_often_as_they_are_trained() -> None:
    method = algorithm("dapo", minibatches=3, epochs=2)
    made = plan(groups(), method, 1.0, 5, 7, hybrid=hybrid())
    assert made.tokens_of(range(12, 16)) == (TOKENS, 2 * TOKENS) and made.tokens_of(()) == (0, 0)
    assert made.tokens_of(range(16))[1] == made.tokens


def test_a_traces_row_has_a_cross_entropy_and_no_other_stream() -> None:
    without, made = planned(), planned(hybrid=hybrid(0.25))
    assert same(made.batch.select(range(12)), without.batch, but=("ce_weight_BT", "added_B"))
    assert not made.batch.ce_weight_BT[:12].any()  # type: ignore[index]
    assert made.batch.added_B.tolist() == [False] * 12 + [True] * 4  # type: ignore[union-attr]
    for row, trace in enumerate(TRACES, 12):
        one = made.batch.select([row])
        assert one.input_ids_BS[0].tolist() == [*trace.prompt_ids, *trace.response_ids]
        assert one.ce_weight_BT.tolist() == [[0.25] * len(trace.response_ids)]  # type: ignore[union-attr]
        streams = {f.name for f in fields(one) if f.name.endswith(("_BT", "_BM", "_rows_B"))} - {"ce_weight_BT"}
        assert {name for name in streams if getattr(one, name) is not None and getattr(one, name).any()} == set()


def test_traces_are_dealt_evenly_in_every_epoch_and_all_of_their_tokens_count() -> None:
    for name in METHODS:
        for weight in (0.0, 0.375):
            method = replace(algorithm(name, minibatches=3), epochs=2)
            without, made = (plan(groups(), method, 1.0, 5, 7, hybrid=own) for own in (None, hybrid(weight)))
            assert len(made.minibatches) == len(without.minibatches) == 6
            for number, (one, other) in enumerate(zip(made.minibatches, without.minibatches, strict=True)):
                own = [[12, 15], [13], [14]][number % 3]
                tokens = [8 + 4, 1, 3][number % 3]
                assert one.rows == (*other.rows, *own)
                assert one.normalisers == replace(other.normalisers, ce=tokens)


def test_tokens_are_counted_with_traces_and_rollouts_without_them() -> None:
    method = replace(algorithm("dapo", minibatches=3), epochs=2)
    made = groups()
    for sample in made[1].samples:
        sample.outcome, sample.reward = Outcome.CORRECT, 1.0  # dropped
    without = plan(made, method, 1.0, 5, 7)
    learned = plan(made, method, 1.0, 5, 7, hybrid=hybrid())
    weightless = plan(made, method, 1.0, 5, 7, hybrid=hybrid(0.0))
    assert without.takes_part_B.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    for planned in (learned, weightless):
        assert planned.takes_part_B.tolist() == [*without.takes_part_B.tolist(), *[False] * 4]
    assert learned.tokens == without.tokens + 2 * TOKENS
    assert (len(weightless.minibatches), weightless.tokens) == (4, without.tokens)


def test_a_minibatch_is_kept_for_its_traces_alone() -> None:
    """DAPO drops groups that are all right: here all three, so only what has a trace of weight > 0 is left."""
    made = groups()
    for group in made:
        for sample in group.samples:
            sample.outcome, sample.reward = Outcome.CORRECT, 1.0
    method = algorithm("dapo", minibatches=3)

    def kept(own: Hybrid | None) -> tuple[int, int]:
        planned = plan(made, method, 1.0, 5, 7, anchors=ANCHORS, hybrid=own)
        return len(planned.minibatches), planned.empty

    assert kept(hybrid()) == (3, 0) and kept(hybrid(traces=TRACES[:2])) == (2, 1)
    assert kept(hybrid(0.0)) == kept(None) == kept(hybrid(traces=[Trace((1,), ())])) == (0, 3)
    only = plan(made, method, 1.0, 5, 7, anchors=ANCHORS, hybrid=hybrid(traces=TRACES[:2])).minibatches
    assert [[row for row in minibatch.rows if row >= 12] for minibatch in only] == [[12, 15, 16], [13, 17]]
    found, out = trained(plan(made, method, 1.0, 5, 7, hybrid=hybrid()), objective(policy=method))
    assert float(found.norm()) > 0 and out.sums["train/entropy"] == (0, 0)


def test_traces_and_anchors_in_one_step() -> None:
    """Each gives what it gives without the other, and each is divided by its own tokens."""
    ref = Toy(seed=2)
    target = objective("srkl", 0.8, "full", anchor=term("fkl"))
    ways: dict[str, dict[str, Any]] = {
        "none": {},
        "anchors": {"anchors": ANCHORS},
        "traces": {"hybrid": hybrid(weights=WEIGHTS)},
        "both": {"anchors": ANCHORS, "hybrid": hybrid(weights=WEIGHTS)},
        "weights": {"hybrid": hybrid(weights=WEIGHTS, traces=[])},
    }
    made = {name: planned(temperature=0.8, **own) for name, own in ways.items()}
    found = {name: trained(one, target, ref) for name, one in made.items()}
    anchors = found["anchors"][0] - found["none"][0]
    traces = found["traces"][0] - found["weights"][0]
    torch.testing.assert_close(found["both"][0], found["weights"][0] + anchors + traces, rtol=1e-11, atol=1e-13)
    for name, share in (("anchors", "anchor/loss"), ("traces", "train/ce_loss")):
        assert found["both"][1].shares[share] == pytest.approx(found[name][1].shares[share], rel=1e-12)
    assert anchor_rows(made["both"].batch) == {12, 13, 14, 15}
    assert made["both"].batch.added_B.tolist() == [False] * 12 + [True] * 8  # type: ignore[union-attr]
    assert made["both"].tokens == made["none"].tokens + 11 + TOKENS
    cut = [[0, 16], [12, 17, 1, 2], [3, 4, 5, 13, 14], [6, 7, 8, 9], [10, 11, 18], [19, 15]]
    parts = sum(trained(made["both"], target, ref, rows)[0] for rows in cut)
    torch.testing.assert_close(parts, found["both"][0], rtol=1e-11, atol=1e-13)


# ---- weights of responses


@pytest.mark.parametrize("name", METHODS)
def test_without_traces_a_step_is_that_of_rl_to_the_last_bit(name: str) -> None:
    target = objective("srkl", 0.8, policy=algorithm(name))
    usual = planned(name, minibatches=3)
    for own in (Hybrid((), 0.1), Hybrid((), 0.1, [1.0] * 12)):
        made = planned(name, minibatches=3, hybrid=own)
        assert same(made.batch, usual.batch) and made.minibatches == usual.minibatches
        for number in range(3):
            (one, _), (other, _) = (trained(step, target, Toy(seed=2), number=number) for step in (made, usual))
            assert torch.equal(one, other) and float(one.norm()) > 0


def test_weights_multiply_the_policy_term_and_nothing_else() -> None:
    method = algorithm(entropy_bonus=0.02, minibatches=3)
    usual = plan(groups(), method, 1.0, 5, 7)
    made = plan(groups(), method, 1.0, 5, 7, hybrid=Hybrid((), 0.1, WEIGHTS))
    assert same(made.batch, usual.batch, but=("policy_weight_BT",)) and made.minibatches == usual.minibatches
    lengths = [len(sample.response_ids) for group in groups() for sample in group.samples]
    expected = [w / n for w, n in zip(WEIGHTS, lengths, strict=True)]
    assert made.batch.policy_weight_BT.max(dim=1).values.tolist() == pytest.approx(expected)  # type: ignore[union-attr]
    assert made.tokens == usual.tokens and made.takes_part_B.all()


def test_a_step_is_taken_also_where_all_responses_weigh_0_and_no_trace_is_learned() -> None:
    made = planned(minibatches=3, hybrid=Hybrid((), 0.1, [0.0] * 12))
    assert made.empty == 0 and len(made.minibatches) == 3
    for number in range(3):
        found, out = trained(made, objective(), number=number)
        assert not found.any() and out.loss == 0


@pytest.mark.parametrize("name", METHODS)
def test_a_response_of_weight_0_adds_exactly_nothing_and_counts_in_the_denominators(name: str) -> None:
    """With a penalty in the loss and without one; each response alone, and all together."""
    method = algorithm(name, mismatch_cap=2.0)
    made, usual = (planned(name, hybrid=own) for own in (Hybrid((), 0.1, WEIGHTS), None))
    target = objective(policy=method)
    alone = [trained(usual, target, rows=[row])[0] for row in range(12)]
    for row, weight in enumerate(WEIGHTS):
        found, out = trained(made, target, rows=[row])
        if weight == 0:
            assert not found.any() and out.loss == 0 and "train/entropy" in out.sums
        torch.testing.assert_close(found, weight * alone[row], rtol=1e-7, atol=1e-15)
    expected = sum(w * gradient for w, gradient in zip(WEIGHTS, alone, strict=True))
    found, _ = trained(made, target)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    penalised = objective("srkl", 0.8, policy=method)
    penalty = trained(usual, penalised, Toy(seed=2))[0] - trained(usual, target, Toy(seed=2))[0]
    whole, out = trained(made, penalised, Toy(seed=2))
    torch.testing.assert_close(whole, expected + penalty, rtol=1e-6, atol=1e-8)  # the penalty is not weighed
    assert out.sums["regularizer/value"][1] == usual.batch.response_tokens


def test_what_an_update_penalises_more_is_not_weighed_and_adds_to_no_trace() -> None:
    """A run may adapt the strength of its penalty from step to step."""
    target, ref = objective("srkl", 0.8), Toy(seed=2)
    made, usual = planned(hybrid=hybrid(weights=WEIGHTS)), planned()
    more = [
        trained(own, target, ref, strengths=Strengths(3.0))[0] - trained(own, target, ref, strengths=Strengths(0.0))[0]
        for own in (made, usual)
    ]
    torch.testing.assert_close(*more, rtol=1e-7, atol=1e-9)
    assert float(more[0].norm()) > 0.01 * float(trained(made, target, ref)[0].norm())


# ---- refusals


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_weights_that_are_no_weights_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        Hybrid(TRACES, bad)
    with pytest.raises(ValueError, match="finite and at least 0"):
        Hybrid(TRACES, 0.1, [1.0, bad])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="11 weights for 12 responses"):
        planned(hybrid=Hybrid((), 0.1, WEIGHTS[:11]))
    with pytest.raises(ValueError, match="with a policy term"):
        weighed(pack_rows([(1,)], [(2,)]), [1.0])
    with pytest.raises(ValueError, match="prompt is empty"):
        planned(hybrid=hybrid(traces=[Trace((), (1,))]))
    with pytest.raises(ValueError, match="one denominator"):
        planned(decision=DecisionConfig(name="ce"), hybrid=hybrid())
    batch = planned().batch
    assert with_traces(batch, Hybrid((), 0.1), 2) == (batch, [(), ()])
