"""Advantages against those that TRL's trainers compute from the same rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.loss.batching import make_batch
from tests.loss.batches import algorithm
from tests.peers.agreement import agree
from tests.peers.trl_steps import Bench, graded_groups, set_rewards

pytestmark = pytest.mark.peers

EPSILON = 1e-4  # beside the standard deviation, on both sides


def ours(bench: Bench, name: str, **settings: Any) -> Tensor:
    return make_batch(bench.groups, algorithm(name, **settings), 1.0).advantages_BT[:, 0].double()


def rewards_PG(bench: Bench) -> Tensor:
    return torch.tensor([[sample.reward for sample in group.samples] for group in bench.groups], dtype=torch.float64)


def theirs(bench: Bench, trl: Any, folder: Any, kind: str = "GRPO", **settings: Any) -> Tensor:
    return bench.scored(bench.trainer(trl, folder, kind, **settings))["advantages"].double()


@pytest.mark.parametrize(
    ("name", "settings", "scale"),
    [
        ("grpo", {}, "group"),
        ("dapo", {}, "group"),
        ("gspo", {}, "group"),
        ("grpo", {"advantage_std": False}, "none"),
        ("dr_grpo", {"constant_length": 8}, "none"),
    ],
)
def test_group_relative_advantages_equal_trls(trl, tmp_path, name, settings, scale):
    """With the group's standard deviation: n − 1 in its denominator and 1e-4 added, on both sides."""
    bench = Bench(tmp_path)
    agree(f"TRL {name}: advantages", ours(bench, name, **settings), theirs(bench, trl, tmp_path, scale_rewards=scale))


def test_leave_one_out_equals_trls(trl, tmp_path):
    bench = Bench(tmp_path)
    agree("TRL rloo: advantages", ours(bench, "rloo"), theirs(bench, trl, tmp_path, "RLOO"))


def test_departure_the_batchs_spread_is_that_of_the_numerators(trl, tmp_path):
    """`scale_rewards="batch"` divides by the spread of the batch's rewards; REINFORCE++ with a group baseline, as in
    its paper, by that of what is left after the baseline: smaller, as the groups' means differ."""
    bench = Bench(tmp_path)
    rewards = rewards_PG(bench)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    numerator, spread = centred.std() + EPSILON, rewards.std() + EPSILON
    assert numerator < 0.99 * spread
    peer = theirs(bench, trl, tmp_path, scale_rewards="batch")
    agree("departure: spread of the batch", ours(bench, "reinforce_pp") * numerator / spread, peer)


@pytest.mark.parametrize("reward", [0.1, 0.3, 0.7])
def test_departure_equal_rewards_have_no_advantage(trl, tmp_path, reward):
    """Rounding leaves a group of equal rewards a mean that is not theirs; TRL's 1e-4 makes of that at most 1e-3 of an
    advantage, carerl makes 0 of it. The other groups are unmoved."""
    made = graded_groups(((3, 1, 4, 2, 2, 1, 3), (5, 2, 2, 1, 1, 1, 2)))
    set_rewards(made[0], [reward] * 7)
    bench = Bench(tmp_path, made)
    carerl, peer = ours(bench, "grpo"), theirs(bench, trl, tmp_path)
    assert not carerl[:7].any()
    assert float(peer[:7].abs().max()) < 1e-3
    agree("TRL grpo beside a uniform group: advantages", carerl[7:], peer[7:])


def test_departure_rloos_divergence_is_not_in_the_reward_before_the_baseline(trl, tmp_path):
    """TRL subtracts beta · sum of (old − reference) over the response from its reward, then takes the baseline. carerl
    leaves the advantage alone: the divergence is a component of its own, or with `place=reward` each token's own."""
    beta = 0.3
    bench = Bench(tmp_path)
    policy = algorithm("rloo")
    batch = bench.batch(policy)
    gaps_BT = (batch.old_logprobs_BT - batch.ref_logprobs_BT) * batch.mask_BT
    kl_PG = gaps_BT.sum(dim=1).reshape(len(bench.groups), -1)
    extra_PG = -beta * policy.advantages(kl_PG)
    peer = theirs(bench, trl, tmp_path, "RLOO", beta=beta)
    agree("departure: RLOO's divergence in the reward", peer - ours(bench, "rloo"), extra_PG.reshape(-1))
