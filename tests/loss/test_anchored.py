"""Anchors in the loss: rows that no reward sees, with a divergence and a count of their own.

Not covered: two ranks (``backends/learners/test_anchors.py``); where prompts and responses come from (``anchors/``).
"""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from carerl.loss.anchored import Anchor, anchor_rows, with_anchors
from carerl.loss.batching import Normalisers, make_batch, plan
from carerl.loss.head import FactoredLogits, TwoKinds, token_statistics
from carerl.loss.objective import AnchorTerm, Objective
from carerl.loss.streams import flatten
from carerl.loss.tally import ObjectiveOutput
from carerl.regularizers import REGULARIZERS
from carerl.types import TokenBatch
from tests.loss.batches import D, Toy, V, algorithm, groups, objective, positions, run

WEIGHT = 1.7
ANCHORS = [
    Anchor((1, 2, 3, 4, 5, 6), (7,)),
    Anchor((3,), (1, 0, 5, 2, 8)),
    Anchor((9, 9), (4, 4)),
    Anchor((2, 1), (3, 3, 3)),
]
TOKENS = 1 + 5 + 2 + 3
PENALTIES = [("none", 0.0, "score"), ("srkl", 0.8, "score"), ("srkl", 0.8, "full"), ("fkl", 0.5, "full")]


def exact_of(name: str):  # type: ignore[no-untyped-def]
    entry = REGULARIZERS[name]
    return entry.build(entry.config()).exact


def all_logprobs(model: Toy, batch: TokenBatch) -> Tensor:
    return torch.log_softmax(model.hidden(batch) @ model.head_VD.T / batch.temperature, dim=-1)


def straight(model: Toy, ref: Toy, batch: TokenBatch, name: str) -> Tensor:
    """The anchor's part by autograd through the divergence, on the rows of anchors alone."""
    own = batch.select(sorted(anchor_rows(batch)))
    if name == "ce":
        rows, columns = positions(own)
        return -all_logprobs(model, own).gather(-1, own.input_ids_BS[rows, columns][:, None]).sum() * WEIGHT / TOKENS
    with torch.no_grad():
        logr_NV = all_logprobs(ref, own)
    return exact_of(name)(all_logprobs(model, own), logr_NV).sum() * WEIGHT / TOKENS


def term(name: str) -> AnchorTerm:
    return AnchorTerm(WEIGHT, None if name == "ce" else exact_of(name))


def gradient_of(model: Toy, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return model.gradient().clone()


def trained(
    model: Toy, batch: TokenBatch, target: Objective, counts: Normalisers, ref: Toy, chunk: int
) -> ObjectiveOutput:
    """Forward and backward, always with the reference's hidden states: its exact reverse KL is then in the metrics."""
    model.zero_grad()
    stats = model.statistics(batch, chunk, ref=ref, exact=target.exact, anchor=target.anchor_exact)
    out = target(stats, flatten(batch), counts)
    out.loss.backward()
    return out


def one_step(batch: TokenBatch, ref: Toy) -> tuple[TokenBatch, TokenBatch, Normalisers]:
    """The batch with the reference's log-probs, without and with anchors, and its denominators."""
    planned = plan(groups(), algorithm(minibatches=1), 0.8, 0, 1, anchors=ANCHORS)
    (minibatch,) = planned.minibatches
    assert sorted(minibatch.rows) == list(range(planned.batch.rows))
    scored = torch.zeros(planned.batch.mask_BT.shape, dtype=torch.float64)
    scored[planned.batch.mask_BT] = ref.statistics(planned.batch).logprobs_N.detach()
    whole = planned.batch.with_streams(ref_logprobs_BT=scored)
    return whole.select(range(batch.rows)).with_streams(anchor_weight_BT=None), whole, minibatch.normalisers


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("name", ["fkl", "rkl", "srkl", "js", "ce"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_the_gradient_is_that_of_the_divergence_on_the_anchors_beside_the_others(
    penalty: tuple[str, float, str], name: str, chunk: int
) -> None:
    model, ref = Toy(seed=1), Toy(seed=2)
    without, whole, counts = one_step(make_batch(groups(), algorithm(), 0.8), ref)
    assert counts.anchor == TOKENS
    usual = trained(model, without, objective(*penalty), counts, ref, chunk)
    expected = model.gradient().clone() + gradient_of(model, straight(model, ref, whole, name))
    out = trained(model, whole, objective(*penalty, anchor=term(name)), counts, ref, chunk)
    assert torch.allclose(model.gradient(), expected, rtol=0, atol=1e-12)
    own = float(straight(model, ref, whole, name).detach())
    assert out.shares["anchor/loss"] == pytest.approx(own, rel=1e-12)
    assert out.shares["train/loss"] == pytest.approx(usual.shares["train/loss"] + own, rel=1e-12)
    total, count = out.sums["anchor/divergence"]
    assert (total * WEIGHT / TOKENS, count) == (pytest.approx(own, rel=1e-12), TOKENS)
    # Nothing else knows of anchors: every other metric is the same sum over the same tokens.
    assert {k: v for k, v in out.sums.items() if not k.startswith("anchor/")} == {
        k: pytest.approx(v, rel=1e-12, abs=1e-15) for k, v in usual.sums.items()
    }


@pytest.mark.parametrize(
    "cut", [[[0, 12], [1, 13, 2], [3, 4, 5, 6, 7, 14], [8, 9, 10, 11], [15]], [[k] for k in range(16)]]
)
@pytest.mark.parametrize("penalty", PENALTIES[1:3], ids=str)
def test_any_cut_gives_the_same_gradient(cut: list[list[int]], penalty: tuple[str, float, str]) -> None:
    model, ref = Toy(seed=1), Toy(seed=2)
    _, whole, counts = one_step(make_batch(groups(), algorithm(), 0.8), ref)
    target = objective(*penalty, anchor=term("fkl"))
    run(model, whole, target, counts, ref)
    at_once = model.gradient().clone()
    model.zero_grad()
    for rows in cut:
        run(model, whole.select(rows), target, counts, ref, chunk=3)
    assert sorted(itertools.chain(*cut)) == list(range(whole.rows))
    assert torch.allclose(model.gradient(), at_once, rtol=0, atol=1e-12)


def test_at_the_reference_nothing_pulls() -> None:
    model, ref = Toy(seed=3), Toy(seed=3)
    own, _ = with_anchors(make_batch(groups(), algorithm(), 1.0), ANCHORS, 1)
    own = own.select(sorted(anchor_rows(own)))
    for name in ("fkl", "rkl", "srkl", "js"):
        stats = model.statistics(own, ref=ref, anchor=exact_of(name))
        assert float(gradient_of(model, stats.divergence_N.sum()).abs().max()) < 1e-14


def test_cross_entropy_has_the_same_expected_gradient_as_forward_kl() -> None:
    """Over every response of one token, weighted by the reference's probabilities of it."""
    model, ref = Toy(seed=1), Toy(seed=2)
    base = make_batch(groups(), algorithm(), 1.0)
    every, _ = with_anchors(base, [Anchor((4, 2), (token,)) for token in range(V)], 1)
    every = every.select(sorted(anchor_rows(every)))
    chance_V = all_logprobs(ref, every)[0].exp().detach()
    weighted = every.with_streams(anchor_weight_BT=chance_V[:, None])
    none = REGULARIZERS["none"].build(REGULARIZERS["none"].config())
    target = Objective(algorithm(), none, 0.0, "score", anchor=AnchorTerm(1.0))
    stats = model.statistics(weighted)
    by_samples = gradient_of(model, target(stats, flatten(weighted), Normalisers(1, 1, 1)).loss)
    one = every.select([0])
    stats = model.statistics(one, ref=ref, anchor=exact_of("fkl"))
    assert torch.allclose(gradient_of(model, stats.divergence_N.sum()), by_samples, rtol=0, atol=1e-14)


def test_an_anchors_row_is_in_no_other_stream_and_the_rows_before_it_stay_as_they_are() -> None:
    batch = make_batch(groups(), algorithm(), 0.8)
    batch = batch.with_streams(
        decision_positions_B=torch.zeros(batch.rows, dtype=torch.long), decision_bounds_B=torch.zeros(batch.rows),
        decision_ids_BK=torch.ones(batch.rows, 2, dtype=torch.long), decision_targets_BK=torch.ones(batch.rows, 2),
    )  # fmt: skip
    added, shares = with_anchors(batch, ANCHORS, 2)
    assert shares == [(12, 14), (13, 15)]
    for name in (field.name for field in fields(batch)):
        stream, before = getattr(added.select(range(12)), name), getattr(batch, name)
        if name in ("anchor_weight_BT", "added_B"):
            assert not stream.any()
        else:
            assert torch.equal(stream, before) if isinstance(before, Tensor) else stream == before, name
    for row, anchor in enumerate(ANCHORS, 12):
        one = added.select([row])
        assert one.input_ids_BS[0].tolist() == [*anchor.prompt_ids, *anchor.response_ids]
        assert one.anchor_weight_BT is not None and one.anchor_weight_BT.tolist() == [[1.0] * len(anchor.response_ids)]
        assert int(one.decision_positions_B[0]) == -1 and not one.policy_rows_B.any()  # type: ignore[index,union-attr]
        for name in ("advantages_BT", "policy_weight_BT", "regularizer_weight_BT", "rollout_logprobs_BT", "strata_BM"):
            assert getattr(one, name) is None or not getattr(one, name).any(), name
    assert with_anchors(batch, [], 2) == (batch, [(), ()])


def test_anchors_are_dealt_evenly_in_every_epoch_and_change_nothing_else() -> None:
    for name in ("grpo", "dapo", "gspo", "rloo"):
        method = replace_epochs(algorithm(name, minibatches=3), 2)
        without, planned = (plan(groups(), method, 1.0, 5, 7, anchors=own) for own in ((), ANCHORS[:4]))
        assert len(planned.minibatches) == len(without.minibatches) == 6
        for number, (one, other) in enumerate(zip(planned.minibatches, without.minibatches, strict=True)):
            own = [row for row in one.rows if row >= 12]
            assert own == [[12, 15], [13], [14]][number % 3]
            assert tuple(row for row in one.rows if row < 12) == other.rows
            tokens = sum(len(ANCHORS[row - 12].response_ids) for row in own)
            assert replace(one.normalisers, anchor=1.0) == other.normalisers and one.normalisers.anchor == tokens
        assert planned.takes_part_B.tolist() == [*without.takes_part_B.tolist(), *[False] * 4]


def replace_epochs(method, epochs: int):  # type: ignore[no-untyped-def]
    return replace(method, epochs=epochs)


def test_a_minibatch_without_anything_rewarded_is_left_out_with_its_anchors() -> None:
    """DAPO drops a group that is all right: one of three minibatches holds that group alone."""
    made = groups()
    for sample in made[1].samples:
        sample.outcome, sample.reward = made[0].samples[0].outcome, 1.0
    planned = plan(made, algorithm("dapo", minibatches=3), 1.0, 5, 7, anchors=ANCHORS)
    assert (len(planned.minibatches), planned.empty) == (2, 1)
    assert all(set(minibatch.rows) - set(range(4, 8)) == set(minibatch.rows) for minibatch in planned.minibatches)
    assert all(any(row < 12 for row in minibatch.rows) for minibatch in planned.minibatches)


def test_what_is_missing_is_refused() -> None:
    batch, _ = with_anchors(make_batch(groups(), algorithm(), 1.0), ANCHORS, 1)
    model, ref = Toy(), Toy(seed=1)
    with pytest.raises(ValueError, match="anchor term"):
        objective()(model.statistics(batch), flatten(batch), Normalisers(1, 1, 1))
    with pytest.raises(ValueError, match="anchor_exact"):
        objective(anchor=term("fkl"))(model.statistics(batch, ref=ref), flatten(batch), Normalisers(1, 1, 1))
    with pytest.raises(ValueError, match="hidden states"):
        model.statistics(batch, anchor=exact_of("fkl"))
    with pytest.raises(ValueError, match="prompt is empty"):
        with_anchors(batch, [Anchor((), (1,))], 1)


def test_a_chunk_keeps_the_reference_and_both_kinds_apart() -> None:
    """Values by kind, against each divergence on the whole: usual tokens have theirs, the others theirs."""
    torch.manual_seed(0)
    policy, reference = (FactoredLogits(torch.randn(9, D), torch.randn(V, D)) for _ in range(2))
    there_N = torch.tensor([0, 0, 1, 1, 1, 1, 0, 1, 0], dtype=torch.bool)
    common = {"temperature": 0.7, "reference": reference}
    targets = torch.zeros(9, dtype=torch.long)
    usual, other = (
        token_statistics(policy, targets, chunk_tokens=9, exact=exact_of(name), **common).divergence_N
        for name in ("srkl", "fkl")
    )
    for chunk in (1, 2, 3, 9):
        for exact in (exact_of("srkl"), None):
            found = token_statistics(
                policy, targets, chunk_tokens=chunk, exact=TwoKinds(exact, exact_of("fkl"), there_N), **common
            ).divergence_N
            here = usual if exact is not None else torch.zeros(9)
            assert torch.allclose(found, torch.where(there_N, other, here), rtol=1e-6, atol=1e-7)
