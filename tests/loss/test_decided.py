"""The loss at decision tokens, through head, objective and the plan of an update, with autograd.

The model is a table: the logits after a token are that token's row. So the gradient of a row is the gradient of the
logits at one place: ``TRACE`` comes before the decision and nowhere else. Several ranks are in
``tests/backends/learners/test_sharding.py``; where training ends up is in ``tests/decisions``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carerl.algorithms import Algorithm
from carerl.backends.learners.policy import Policy
from carerl.decisions import CLAMPS, TARGETS, DecisionConfig
from carerl.decisions.fixed import flow
from carerl.loss.batching import Normalisers, StepBatch, make_batch, plan
from carerl.loss.decided import with_decisions
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective
from carerl.loss.packing import pack_rows
from carerl.loss.streams import flatten
from carerl.loss.tally import ObjectiveOutput
from carerl.regularizers import REGULARIZERS
from carerl.types import Decision, Example, Group, Outcome, Sample, TokenBatch
from tests.loss.batches import algorithm as build
from tests.loss.batches import streams_of

K = 4
TRACE, PROMPT, START, OTHER, END = range(K, K + 5)  # after the options' own tokens
V = K + 5
NEVER = -60.0  # a logit: e^-60 of probability


class Table(nn.Module):
    """What :class:`Policy` asks of a model: a decoder, and a head, here the identity."""

    def __init__(self, logits_VV: Tensor):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(logits_VV.double(), freeze=False)
        self.head = nn.Linear(V, V, bias=False, dtype=torch.float64)
        self.head.weight.data.copy_(torch.eye(V))

    def get_decoder(self) -> Any:
        return lambda input_ids, use_cache: SimpleNamespace(last_hidden_state=self.table(input_ids))

    def get_output_embeddings(self) -> nn.Linear:
        return self.head


def table(seed: int = 0, decision: Sequence[float] | None = None) -> Tensor:
    """Random logits. ``decision``: the probabilities of the options after the trace; other tokens have none."""
    logits_VV = torch.randn(V, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if decision is not None:
        logits_VV[TRACE] = NEVER
        logits_VV[TRACE, : len(decision)] = torch.tensor(decision, dtype=torch.float64).log()
    return logits_VV


def decided(chosen: int, right: Sequence[int], options: int = K, position: int = 2) -> Decision:
    return Decision(position, "ABCD"[chosen], {"ABCD"[o]: o for o in range(options)}, tuple("ABCD"[o] for o in right))


def sample(chosen: int | None, right: Sequence[int], reward: float, length: int = 0, options: int = K) -> Sample:
    """(start, trace, option, then ``length`` others, end); without a decision (start, other, end)."""
    ids = (START, OTHER, END) if chosen is None else (START, TRACE, chosen, *(OTHER,) * length, END)
    outcome = Outcome.CORRECT if reward else Outcome.WRONG
    made = Sample("q", ids, (-2.0,) * len(ids), False, (0, 0), outcome=outcome, reward=reward)
    made.decision = None if chosen is None else decided(chosen, right, options)
    return made


def groups() -> list[Group]:
    """Three of four, of unequal lengths: the last one's rewards are all 1, and some samples have no decision."""
    rows = [
        [(0, 1.0, 2), (1, 0.0, 0), (None, 0.0, 0), (2, 0.0, 1)],
        [(None, 1.0, 0), (3, 0.0, 3), (0, 1.0, 0), (None, 0.0, 0)],
        [(0, 1.0, 1), (0, 1.0, 0), (None, 1.0, 0), (0, 1.0, 2)],
    ]
    return [
        Group(Example(f"q{n}", (PROMPT,) * (n + 1), ""), [sample(c, (0,), r, length) for c, r, length in row])
        for n, row in enumerate(rows)
    ]


def algorithm(name: str = "grpo", **settings: Any) -> Algorithm:
    return build(name, **{"minibatches": 1, **settings})


def objective(policy: Algorithm, beta: float = 0.0, estimator: str = "score", place: str = "loss") -> Objective:
    entry = REGULARIZERS["srkl"]
    return Objective(policy, entry.build(entry.config()), beta, estimator, place)


def old_policy(batch: TokenBatch, seed: int = 7, amount: float = 0.1) -> TokenBatch:
    """The same rows as an older policy's: its log-probs, and a reference's further away."""
    moved = {
        name: Policy(Table(table() + size * table(seed)), 1000, compiled=True)
        for name, size in (("old_logprobs_BT", amount), ("ref_logprobs_BT", 0.5))
    }
    found = {name: model(batch, None, False)["logprobs_N"].detach() for name, model in moved.items()}
    return batch.with_streams(**{name: streams_of(batch, values_N) for name, values_N in found.items()})


def backward(
    logits_VV: Tensor, batch: TokenBatch, target: Objective, norms: Normalisers, part: str = ""
) -> tuple[Tensor, ObjectiveOutput]:
    """Gradient of the table, (V, V), of the loss or of one part of it."""
    model = Table(logits_VV)
    stats = TokenStatistics(**Policy(model, 3, compiled=True)(batch, None, False))
    out = target(stats, flatten(batch), norms)
    (out.parts[part] if part else out.loss).backward()
    assert model.table.weight.grad is not None
    return model.table.weight.grad, out


def planned(policy: Algorithm, made: list[Group] | None = None, **settings: Any) -> StepBatch:
    config = DecisionConfig(**{"name": "ce", "weight": 1.0, **settings})
    return plan(made or groups(), policy, 1.0, seed=0, step=1, decision=config)


# ---- the cross-entropy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "loss", "pull"), [(True, 0.2231, -0.2), (False, 0.9163, 0.3)])
def test_two_options_by_hand(right, loss, pull) -> None:
    """p = (.8, .2), the first one named. Right: −log .8, pull .8 − 1. Wrong: −(log .8 + log .2)/2, pull .8 − .5. The
    paper's weight multiplies both, and the row without a decision is in no denominator."""
    made = [Group(Example("q", (PROMPT,), ""), [sample(0, (0 if right else 1,), 1.0, options=2), sample(None, (), 0)])]
    for weight in (1.0, 0.001):
        step = planned(algorithm(), made, weight=weight)
        policy_table = table(decision=(0.8, 0.2))
        gradient, out = backward(policy_table, step.batch, objective(algorithm()), step.minibatches[0].normalisers)
        assert out.shares["train/ce_loss"] == pytest.approx(weight * loss, abs=weight * 5e-5)
        expected = torch.zeros(V, dtype=torch.float64)
        expected[0], expected[1] = weight * pull, -weight * pull
        torch.testing.assert_close(gradient[TRACE], expected, rtol=1e-6, atol=1e-9)
        assert out.sums["decision/probability"] == pytest.approx((0.8, 1)) and out.sums["decision/bounded"] == (0, 1)


def test_mass_outside_the_options_pays_too() -> None:
    """p = (.4, .1), and .5 on a token that is no option. −log .4 of a right decision, not −log .8; the other tokens of
    the vocabulary are pulled down by their own probability."""
    logits_VV = table(decision=(0.4, 0.1))
    logits_VV[TRACE, OTHER] = np.log(0.5)
    made = [Group(Example("q", (PROMPT,), ""), [sample(0, (0,), 1.0, options=2), sample(None, (), 0)])]
    step = planned(algorithm(), made)
    gradient, out = backward(logits_VV, step.batch, objective(algorithm()), step.minibatches[0].normalisers)
    assert out.shares["train/ce_loss"] == pytest.approx(-np.log(0.4))
    assert gradient[TRACE, [0, 1, OTHER]].tolist() == pytest.approx([-0.6, 0.1, 0.5])


def every_decision(right_by_row: Sequence[int]) -> tuple[TokenBatch, list[Sample]]:
    """A row for each decision and each right option."""
    samples = [sample(chosen, (right,), 0.0) for chosen in range(K) for right in right_by_row]
    return pack_rows([(PROMPT,)] * len(samples), [one.response_ids for one in samples]), samples


@pytest.mark.parametrize("start", [(0.7, 0.1, 0.1, 0.1), (0.26, 0.4, 0.24, 0.1), (0.2, 0.3, 0.27, 0.23)])
@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("target", TARGETS)
def test_the_expected_gradient_is_the_pull_whose_fixed_points_are_known(target, clamp, start) -> None:
    """Summed over decisions and right options by their probabilities. One step of the flow at rate 1 moves the logits
    by the pull, whose mean is 0."""
    q = (0.4, 0.3, 0.2, 0.1)
    batch, samples = every_decision(range(K))
    batch = with_decisions(batch, samples, DecisionConfig(name="ce", weight=1.0, target=target, clamp=clamp))
    for greedy in (False, True):
        sampled = np.eye(K)[int(np.argmax(start))] if greedy else np.asarray(start)
        chances_B1 = torch.tensor(np.outer(sampled, q).reshape(-1, 1))
        weighed = batch.with_streams(ce_weight_BT=batch.ce_weight_BT.double() * chances_B1)
        gradient, _ = backward(table(decision=start), weighed, Objective.supervised(), Normalisers(1, 1, 1))
        moved = np.log(flow(start, q, target, clamp, greedy, rate=1.0, steps=1)) - np.log(start)
        np.testing.assert_allclose(-gradient[TRACE, :K].numpy(), moved - moved.mean(), atol=1e-7)
        assert not gradient[TRACE, K:].any() or gradient[TRACE, K:].abs().max() < 1e-20
        assert not gradient[[row for row in range(V) if row != TRACE]].any()


@pytest.mark.parametrize("target", ["paper", "rest"])
@pytest.mark.parametrize(("clamp", "right"), [("uniform", False), ("both", False), ("both", True)])
def test_the_bound_follows_the_current_probability_alone(target, clamp, right) -> None:
    """K = 4: the term is on at .3 and off at .25 and .2, whatever the old policy had there."""
    made = [Group(Example("q", (PROMPT,), ""), [sample(0, (0 if right else 1,), 1.0), sample(None, (), 0)])]
    step = planned(algorithm(), made, target=target, clamp=clamp)
    norms = step.minibatches[0].normalisers
    for probability, off in ((0.3, 0.0), (0.25, 1.0), (0.2, 1.0)):
        rest = (1 - probability) / 3
        for old in (0.1, 0.9):
            old_BT = torch.full(step.batch.mask_BT.shape, float(np.log(old)))
            batch = step.batch.with_streams(old_logprobs_BT=old_BT)
            logits_VV = table(decision=(probability, rest, rest, rest))
            gradient, out = backward(logits_VV, batch, objective(algorithm()), norms)
            assert bool(gradient[TRACE].any()) is not bool(off) and out.sums["decision/bounded"] == (off, 1.0)
            assert norms.ce == 1, "a decision that is off still counts"
            assert (out.shares["train/ce_loss"] == 0) is bool(off)


# ---- the policy term ------------------------------------------------------------------------------------------


ALGORITHMS = {
    "grpo": algorithm("grpo"),
    "dapo": algorithm("dapo", max_draws=1, drop_uniform_groups=False),
    "gspo": algorithm("gspo", clip_low=0.5, clip_high=0.5),
}
OTHERS = [row for row in range(V) if row != TRACE]


@pytest.mark.parametrize("old", [False, True], ids=["on policy", "off policy"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_policy_term_of_a_decision_is_gone_and_that_of_the_others_stays(name, old) -> None:
    """Exactly: gradients of 0, and the others' to the last bit under a ratio for each token."""
    policy = ALGORITHMS[name]
    plain, masked, kept = (
        planned(policy, **settings) for settings in ({"name": "none"}, {"weight": 0.0}, {"mask": False})
    )
    found = {}
    for key, step in (("plain", plain), ("masked", masked), ("kept", kept)):
        batch = old_policy(step.batch) if old else step.batch
        found[key], out = backward(table(), batch, objective(policy), step.minibatches[0].normalisers, "policy")
        assert old is (0 < out.sums["train/ratio"][0] != out.sums["train/ratio"][1])
    assert torch.equal(found["masked"][TRACE], torch.zeros(V, dtype=torch.float64))
    assert found["plain"][TRACE].norm() > 1e-3 and torch.equal(found["kept"], found["plain"])
    assert found["masked"][OTHERS].norm() > 1e-3
    if name != "gspo":
        assert torch.equal(found["masked"][OTHERS], found["plain"][OTHERS])


def test_a_sequences_advantage_is_the_mean_over_its_tokens_and_that_of_its_decision_is_0() -> None:
    """GSPO on policy: the other tokens of a response of |y| have (|y| − 1)/|y| of their gradient."""
    policy = ALGORITHMS["gspo"]
    plain, masked = planned(policy, name="none"), planned(policy, weight=0.0)
    norms, lengths = plain.minibatches[0].normalisers, set()
    for row in range(8):  # the last group's advantages are 0
        found, expected = (backward(table(), one.batch.select([row]), objective(policy), norms, "policy")[0][OTHERS]
                           for one in (masked, plain))  # fmt: skip
        length = int(plain.batch.response_lengths_B[row])
        lengths.add(length)
        decided_here = bool((masked.batch.decision_positions_B[row] >= 0).item())
        torch.testing.assert_close(found, expected * (1 - decided_here / length), rtol=1e-12, atol=1e-17)
        assert expected.norm() > 1e-3
    assert lengths == {3, 4, 5, 6, 7}


@pytest.mark.parametrize("mask", [True, False])
def test_a_sequences_ratio_does_not_see_its_decision(mask) -> None:
    """GSPO: another probability of the decision, under the current policy alone, changes no other gradient."""
    policy = ALGORITHMS["gspo"]
    step = planned(policy, weight=1e-9, mask=mask)
    batch, found = old_policy(step.batch), []
    for seed in (0, 3):
        logits_VV = table()
        logits_VV[TRACE] = table(seed)[TRACE]
        gradient, _ = backward(logits_VV, batch, objective(policy), step.minibatches[0].normalisers, "policy")
        found.append(gradient[OTHERS])
    assert torch.equal(*found) is mask


@pytest.mark.parametrize("regularize", [True, False])
@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo"])
def test_denominators_do_not_change(name, regularize) -> None:
    policy = algorithm(name, **({"max_draws": 1} if name == "dapo" else {}))
    plain = planned(policy, name="none").minibatches[0].normalisers
    found = planned(policy, regularize=regularize).minibatches[0].normalisers
    assert (found.policy, found.regularizer, found.entropy) == (plain.policy, plain.regularizer, plain.entropy)
    assert found.ce == 8 and plain.ce == 1


def test_rows_without_a_decision_are_ordinary_rows_and_weight_0_without_a_mask_is_nothing() -> None:
    policy = algorithm()
    plain, ours = planned(policy, name="none"), planned(policy, regularize=False)
    rows = [n for n, one in enumerate(one for group in groups() for one in group.samples) if one.decision is None]
    assert len(rows) == 4
    before, after = plain.batch.select(rows), ours.batch.select(rows)
    for stream in fields(TokenBatch):
        old, new = getattr(before, stream.name), getattr(after, stream.name)
        if isinstance(old, Tensor):
            assert torch.equal(old, new), stream.name
    assert not after.ce_weight_BT.any() and after.decision_positions_B.tolist() == [-1] * 4
    beta = objective(policy, 2.0)
    norms = plain.minibatches[0].normalisers
    (gradient, _), (expected, _) = (backward(table(), old_policy(one), beta, norms) for one in (after, before))
    assert torch.equal(gradient, expected)

    off = planned(policy, weight=0.0, mask=False)
    assert off.minibatches == plain.minibatches
    for stream in fields(TokenBatch):
        old, new = getattr(plain.batch, stream.name), getattr(off.batch, stream.name)
        assert torch.equal(old, new) if isinstance(old, Tensor) else old == new, stream.name


# ---- the penalty ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("estimator", "place"), [("score", "loss"), ("k3", "loss"), ("score", "reward")])
@pytest.mark.parametrize("old", [False, True], ids=["on policy", "off policy"])
def test_the_penalty_can_be_taken_off_decisions_alone(estimator, place, old) -> None:
    policy, target = algorithm(), objective(algorithm(), 2.0, estimator, place)
    part = "policy" if place == "reward" else "regularizer"
    found = {}
    for regularize in (True, False):
        step = planned(policy, regularize=regularize, weight=0.5)
        batch = old_policy(step.batch)
        batch = batch if old else batch.with_streams(old_logprobs_BT=None)
        found[regularize], out = backward(table(), batch, target, step.minibatches[0].normalisers, part)
        assert ("regularizer" in out.parts) is (place == "loss")
    assert found[True][TRACE].norm() > 1e-4, "what is left where the advantage is 0"
    assert torch.equal(found[False][TRACE], torch.zeros(V, dtype=torch.float64))
    assert torch.equal(found[False][OTHERS], found[True][OTHERS]) and found[True][OTHERS].norm() > 1e-3


# ---- groups, minibatches, splits ------------------------------------------------------------------------------


def test_groups_that_are_dropped_keep_their_cross_entropy() -> None:
    """DAPO drops the last group, in which all are right. Its three decisions count, and a minibatch of it alone is
    trained on."""
    policy = algorithm("dapo", max_draws=1, minibatches=3)
    alone, plain = planned(policy), planned(policy, name="none")
    assert (plain.empty, len(plain.minibatches)) == (1, 2) and (alone.empty, len(alone.minibatches)) == (0, 3)
    last = next(part for part in alone.minibatches if 8 in part.rows)
    rows = alone.batch.select(last.rows)
    assert sorted(last.rows) == [8, 9, 10, 11] and last.normalisers.ce == 3 and not rows.policy_weight_BT.any()
    gradient, out = backward(table(), old_policy(rows), objective(policy, 2.0), last.normalisers)
    logp_V = table()[TRACE].log_softmax(-1)
    assert out.shares["train/ce_loss"] == pytest.approx(-float(logp_V[0]))
    assert out.shares["train/policy_loss"] == 0 == out.shares["regularizer/loss"]
    expected_V = logp_V.exp()
    expected_V[0] -= 1
    torch.testing.assert_close(gradient[TRACE], expected_V)
    assert not gradient[OTHERS].any()


@pytest.mark.parametrize("together", [True, False], ids=["one micro-batch", "one for each row"])
def test_decisions_of_dropped_groups_are_in_no_mean_of_other_parts(together) -> None:
    """As many tokens count as without a cross-entropy, whatever a micro-batch holds."""
    policy = algorithm("dapo", max_draws=1, entropy_bonus=0.1)
    target, sums = objective(policy, 2.0), {}
    for name in ("ce", "none"):
        step = planned(policy, name=name)
        batch, norms = old_policy(step.batch), step.minibatches[0].normalisers
        found: dict[str, list[float]] = {}
        for rows in [range(12)] if together else [[row] for row in range(12)]:
            _, out = backward(table(), batch.select(rows), target, norms)
            for metric, pair in out.sums.items():
                found[metric] = [a + b for a, b in zip(found.get(metric, [0.0, 0.0]), pair, strict=True)]
        sums[name] = found
    decisions = {metric for metric in sums["ce"] if metric.startswith("decision/")}
    assert sums["none"].keys() == sums["ce"].keys() - decisions
    kept = sum(len(sample.response_ids) for group in groups()[:2] for sample in group.samples)
    for metric in ("train/entropy", "regularizer/value", "regularizer/reverse_kl"):
        assert sums["ce"][metric] == pytest.approx(sums["none"][metric]) and sums["ce"][metric][1] == kept
    assert all(sums["ce"][metric][1] == pair[1] for metric, pair in sums["none"].items())
    assert sums["ce"]["decision/cross_entropy"][1] == 8, "of dropped groups too"


@pytest.mark.parametrize("name", ["grpo", "gspo"])
@pytest.mark.parametrize("target", TARGETS)
def test_pitfall_01_any_split_into_micro_batches_gives_the_same_sums(name, target) -> None:
    policy = algorithm(name, entropy_bonus=0.1)
    step = planned(policy, target=target, weight=0.3, regularize=False)
    batch, norms = old_policy(step.batch), step.minibatches[0].normalisers
    splits: list[list[list[int]]] = [
        [list(range(12))], [[row] for row in range(12)], [[2, 4, 7, 10], [11, 0, 1], [], [3, 5, 6, 8, 9]],
    ]  # fmt: skip
    found = []
    for split in splits:
        total, shares, sums = torch.zeros(V, V, dtype=torch.float64), {}, {}
        for rows in split:
            gradient, out = backward(table(), batch.select(rows), objective(policy, 2.0), norms)
            total += gradient
            for key, value in out.shares.items():
                shares[key] = shares.get(key, 0.0) + value
            for key, (value, count) in out.sums.items():
                sums[key] = tuple(np.add(sums.get(key, (0.0, 0.0)), (value, count)))
            assert set(out.parts) == {"policy", "regularizer", "entropy", "ce"}, "in every micro-batch"
            torch.testing.assert_close(out.loss, sum(out.parts.values()))
        found.append((total, shares, sums))
    assert 0 < found[0][2]["decision/bounded"][0] < found[0][2]["decision/bounded"][1] == 8 or target == "gold"
    for total, shares, sums in found[1:]:
        torch.testing.assert_close(total, found[0][0], rtol=1e-10, atol=1e-14)
        assert shares == pytest.approx(found[0][1], rel=1e-10, abs=1e-12)
        assert {key: sums[key] for key in found[0][2]} == {
            key: pytest.approx(value, rel=1e-10, abs=1e-12) for key, value in found[0][2].items()
        }


def test_a_decision_without_a_right_option_has_no_gold_and_stays_ordinary() -> None:
    made = groups()
    made[0].samples[1].decision = decided(1, ())
    policy = algorithm()
    plain, gold = planned(policy, made, name="none").batch, planned(policy, made, target="gold").batch
    paper = planned(policy, made).batch
    assert gold.decision_positions_B[1] == -1 and torch.equal(gold.advantages_BT[1], plain.advantages_BT[1])
    assert paper.decision_positions_B[1] == 2 and paper.advantages_BT[1, 2] == 0


def test_options_of_unequal_number_stand_in_one_batch() -> None:
    """Padding has a weight of 0: two options beside four, and the same loss as by itself."""
    policy = algorithm()
    mixed = [sample(1, (1,), 1.0, options=2), sample(3, (2,), 0.0)]
    step = planned(policy, [Group(Example("q", (PROMPT,), ""), mixed)], clamp="off")
    assert step.batch.decision_targets_BK.tolist() == [[0, 1, 0, 0], [0.25] * 4]
    _, out = backward(table(), step.batch, objective(policy), step.minibatches[0].normalisers)
    logp_V = table()[TRACE].log_softmax(-1)
    assert out.shares["train/ce_loss"] == pytest.approx(-float(logp_V[1] + logp_V[:4].mean()) / 2)


def test_what_is_planned_without_decisions_has_none() -> None:
    batch = make_batch(groups(), algorithm(), 1.0)
    assert with_decisions(batch, [sample(None, (), 0)] * 12, DecisionConfig(name="ce")) is batch
