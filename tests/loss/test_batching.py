"""Advantages, surrogate, aggregation and batches: each by hand on tiny inputs."""

from __future__ import annotations

import math

import pytest
import torch

from carerl.algorithms.advantages import group_relative
from carerl.algorithms.aggregation import sequence_mean
from carerl.algorithms.surrogate import clipped
from carerl.loss.batching import make_batch, minibatches, normalisers, plan
from carerl.loss.packing import pack_rows
from carerl.types import Example, Group, Outcome, Sample
from tests.loss.batches import algorithm, groups


def test_advantages_by_hand():
    """(1, 0, 0, 0): mean .25, deviations .75, −.25 ×3, variance (.5625 + 3 · .0625)/3 = .25, std .5."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    ours = group_relative(rewards, divide_by_std=True, epsilon=1e-4)
    expected = torch.tensor([[0.75, -0.25, -0.25, -0.25]], dtype=torch.float64)
    torch.testing.assert_close(ours, expected / 0.5001, rtol=1e-14, atol=0)
    torch.testing.assert_close(group_relative(rewards, divide_by_std=False, epsilon=1e-4), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reward", [0.3, 0.1, 1 / 3, 0.7, 1e-9, 12345.678])
def test_pitfall_11_constant_rewards_give_exactly_zero(reward, dtype):
    """The mean of eight 0.3 is not 0.3 in floating point; the residue over a tiny std must not become huge."""
    for size in (2, 3, 7, 8, 16):
        rewards = torch.full((2, size), reward, dtype=dtype)
        for std in (True, False):
            ours = group_relative(rewards, std, 1e-9)
            assert torch.equal(ours, torch.zeros_like(rewards))


def test_pitfall_11_the_residue_is_real():
    """The test above can fail: the bare formula leaves a residue for some group size, in float32."""
    rewards = torch.full((1, 7), 0.3)
    bare = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-9)
    assert bare.abs().max() > 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_pitfall_15_rewards_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        group_relative(torch.tensor([[0.0, 1.0], [bad, 1.0]]), True, 1e-4)
    made = groups()
    made[1].samples[0].reward = bad
    with pytest.raises(ValueError, match="finite"):
        make_batch(made, algorithm(), 1.0)


def test_a_group_of_one_has_no_advantage():
    with pytest.raises(ValueError, match="G > 1"):
        group_relative(torch.ones(3, 1), True, 1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "is_clipped"),
    [
        # −min(w A, clip(w, .8, 1.3) A)
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.6, True),  # above the bound: 1.3 · 2
        (1.5, -2.0, 3.0, False),  # a bad token that grew is not spared
        (0.5, 2.0, -1.0, False),  # a good token that shrank is not spared
        (0.5, -2.0, 1.6, True),  # below the bound: .8 · 2
        (1.5, 0.0, 0.0, False),
    ],
)
def test_surrogate_by_hand(ratio, advantage, loss, is_clipped):
    lp = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    ours, flag = clipped(lp, torch.zeros(1), torch.tensor([advantage]), None, low=0.2, high=0.3)
    assert float(ours.detach()) == pytest.approx(loss) and bool(flag) is is_clipped
    (gradient,) = torch.autograd.grad(ours.sum(), lp)
    assert float(gradient) == pytest.approx(0.0 if is_clipped else -ratio * advantage)


def test_surrogate_has_no_gradient_through_the_old_policy_and_stays_finite():
    lp = torch.tensor([-1.0, 0.0, -300.0, 0.0], requires_grad=True)
    old = torch.tensor([-1.0, -300.0, 0.0, -300.0], requires_grad=True)
    loss, _ = clipped(lp, old, torch.tensor([1.0, -1.0, 1.0, 0.0]), None, 0.2, 0.2)
    loss.sum().backward()
    assert old.grad is None and lp.grad is not None
    assert bool(torch.isfinite(loss).all()) and bool(torch.isfinite(lp.grad).all())


def example_groups() -> list[Group]:
    def sample(reward: float, *ids: int) -> Sample:
        return Sample("e", ids, tuple(-0.1 * i for i in ids), False, (0, 0), reward=reward)

    return [
        Group(Example("a", (5, 6), ""), [sample(1.0, 1, 2), sample(0.0, 3)]),
        Group(Example("b", (7, 8, 9), ""), [sample(1.0, 4), sample(1.0)]),
    ]


def test_make_batch_by_hand():
    batch = make_batch(example_groups(), algorithm(), temperature=0.5)
    assert batch.input_ids_BS.tolist() == [[5, 6, 1, 2], [5, 6, 3, 0], [7, 8, 9, 4], [7, 8, 9, 0]]
    assert batch.prompt_lengths_B.tolist() == [2, 2, 3, 3] and batch.response_lengths_B.tolist() == [2, 1, 1, 0]
    assert batch.policy_weight_BT.tolist() == [[0.5, 0.5], [1, 0], [1, 0], [0, 0]]
    assert batch.regularizer_weight_BT.tolist() == [[1, 1], [1, 0], [1, 0], [0, 0]]
    # rewards (1, 0): deviations ±.5, std √.5
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    torch.testing.assert_close(batch.advantages_BT, torch.tensor([[a, a], [-a, 0], [0, 0], [0, 0]]))
    torch.testing.assert_close(batch.rollout_logprobs_BT, torch.tensor([[-0.1, -0.2], [-0.3, 0], [-0.4, 0], [0, 0]]))
    assert batch.temperature == 0.5
    assert batch.old_logprobs_BT is None and batch.ref_logprobs_BT is None and batch.ce_weight_BT is None
    norms = normalisers(batch, algorithm())
    assert (norms.policy, norms.regularizer) == (4, 4), "sequences, an empty one included; response tokens"


def test_pitfall_13_masks_come_from_lengths_and_not_from_ids():
    """A response of padding ids and end-of-sequence ids is as much trained on as any other."""
    zeros = Sample("e", (0, 0, 0), (-1.0, -1.0, -1.0), False, (0, 0), reward=1.0)
    other = Sample("e", (2,), (-1.0,), False, (0, 0), reward=0.0)
    batch = make_batch([Group(Example("a", (0,), ""), [zeros, other])], algorithm(), 1.0)
    assert batch.mask_BT.tolist() == [[True] * 3, [True, False, False]]
    assert batch.regularizer_weight_BT.sum() == 4 and normalisers(batch, algorithm()).regularizer == 4


def test_bad_groups_are_refused():
    made = example_groups()
    made[0].samples[0].reward = None
    with pytest.raises(ValueError, match="no reward"):
        make_batch(made, algorithm(), 1.0)
    made = example_groups()
    made[1].samples.pop()
    with pytest.raises(ValueError, match="differ in size"):
        make_batch(made, algorithm(), 1.0)
    made = example_groups()
    made[0].samples[0].rollout_logprobs = (-0.1,)
    made[0].samples[1].rollout_logprobs = (-0.1, -0.2)  # the sum of the lengths is right
    with pytest.raises(ValueError, match="log-probs"):
        make_batch(made, algorithm(), 1.0)
    with pytest.raises(ValueError, match="groups"):
        make_batch([], algorithm(), 1.0)


def test_pack_rows():
    batch = pack_rows([(1, 2), (3,)], [(4,), ()], temperature=0.7)
    assert batch.input_ids_BS.tolist() == [[1, 2, 4], [3, 0, 0]] and batch.temperature == 0.7
    assert pack_rows([], []).input_ids_BS.shape == (0, 0)
    with pytest.raises(ValueError, match="empty"):
        pack_rows([()], [(1,)])
    with pytest.raises(ValueError, match="zip"):
        pack_rows([(1,)], [])


def test_minibatches_keep_groups_whole_and_use_every_row_once():
    parts = minibatches(24, group_size=4, count=3, seed=5)
    assert sorted(row for part in parts for row in part) == list(range(24))
    for part in parts:
        assert len(part) == 8
        assert {row // 4 for row in part} == {part[0] // 4, part[4] // 4}, "two whole groups"
    assert parts == minibatches(24, 4, 3, seed=5)
    assert len({str(minibatches(24, 4, 3, seed=s)) for s in range(10)}) > 5, "the seed shuffles"
    for rows, group_size, count in ((24, 4, 4), (22, 4, 2)):
        with pytest.raises(ValueError, match="divide"):
            minibatches(rows, group_size, count, seed=0)


def test_pitfall_02_denominators_add_up_over_any_division_of_the_rows():
    """Counts of parts sum to the count of the whole, as ranks need; a mean of means would not."""
    batch = make_batch(groups(), algorithm(), 1.0)
    whole = normalisers(batch, algorithm())
    parts = [normalisers(batch.select(rows), algorithm()) for rows in ([0, 5, 7], [1], [2, 3, 4, 6, 8, 9, 10, 11])]
    assert sum(p.policy for p in parts) == whole.policy == 12
    assert sum(p.regularizer for p in parts) == whole.regularizer == batch.response_tokens


def test_sequence_weights_do_not_depend_on_the_padded_width():
    batch = make_batch(groups(), algorithm(), 1.0)
    weights, _ = sequence_mean(batch)
    alone = batch.select([0])
    assert torch.equal(sequence_mean(alone)[0], weights[:1, : alone.width])
    torch.testing.assert_close(weights.sum(1), torch.ones(12))


def graded(*right: int) -> list[Group]:
    """A group of two responses for each number, of which so many are right."""

    def sample(correct: bool) -> Sample:
        outcome = Outcome.CORRECT if correct else Outcome.WRONG
        return Sample("e", (3, 4), (-0.1, -0.2), False, (0, 0), outcome=outcome, reward=float(correct))

    return [Group(Example(str(k), (5, 6), ""), [sample(n > 0), sample(n > 1)]) for k, n in enumerate(right)]


def test_a_plan_deals_every_row_once_an_epoch_and_repeats_itself():
    made = algorithm(minibatches=2, epochs=3)

    def rows_of(step: int) -> tuple[tuple[int, ...], ...]:
        return tuple(part.rows for part in plan(graded(1, 1, 1, 1), made, 1.0, seed=7, step=step).minibatches)

    planned, dealt = plan(graded(1, 1, 1, 1), made, 1.0, seed=7, step=2), rows_of(2)
    assert planned.empty == 0 and len(dealt) == 6
    epochs = [(*dealt[k], *dealt[k + 1]) for k in (0, 2, 4)]
    assert all(sorted(rows) == list(range(8)) for rows in epochs)
    assert dealt == rows_of(2) == tuple(part.rows for part in planned.minibatches)
    assert len(set(epochs)) > 1 and len({rows_of(step) for step in range(6)}) > 1, (
        "epochs and steps are shuffled each in its own way"
    )
    for part in planned.minibatches:
        assert part.normalisers == normalisers(planned.batch.select(part.rows), made)


def test_a_plan_leaves_out_minibatches_in_which_nothing_takes_part():
    """A step along a gradient of 0 would still move the weights, by the optimizer's momentum."""
    made = algorithm("dapo", minibatches=4, epochs=1)
    planned = plan(graded(1, 0, 2, 1), made, 1.0, seed=7, step=1)
    assert planned.empty == 2 and planned.takes_part_B.tolist() == [True, True, *[False] * 4, True, True]
    assert sorted(part.rows for part in planned.minibatches) == [(0, 1), (6, 7)]
