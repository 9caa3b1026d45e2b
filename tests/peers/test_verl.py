"""Advantages, policy losses and divergences against verl's `core_algos`, as functions of the same tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from carerl.algorithms.base import Algorithm
from tests.loss.batches import algorithm, objective
from tests.peers.agreement import agree, distance
from tests.peers.token_case import Case
from tests.peers.trl_steps import graded_groups

pytestmark = pytest.mark.peers

BETA = 0.3
BUDGET = 10
NEVER = 1e6  # verl's dual clip, out of the way
KEPT = {"drop_uniform_groups": False}
WIDE = {"clip_ratio_high": 0.28}

# carerl's algorithm, verl's name of the loss, its way of averaging, its settings
SAME: list[tuple[str, dict[str, Any], str, str, dict[str, float]]] = [
    ("grpo", {}, "vanilla", "seq-mean-token-mean", {}),
    ("dapo", KEPT, "vanilla", "token-mean", WIDE),
    ("gspo", {}, "gspo", "seq-mean-token-mean", {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4}),
    (
        "gspo",
        {"clip_low": 0.03, "clip_high": 0.04},
        "gspo",
        "seq-mean-token-mean",
        {"clip_ratio_low": 0.03, "clip_ratio_high": 0.04},
    ),
    ("dr_grpo", {"constant_length": BUDGET}, "vanilla", "seq-mean-token-sum-norm", {}),
    ("rloo", {}, "vanilla", "seq-mean-token-sum", {}),
]


def policy_step(verl: Any, case: Case, loss: str, mode: str, **settings: Any) -> tuple[float, Tensor]:
    from verl.workers.config import ActorConfig

    arguments = {"clip_ratio_c": NEVER, **settings}
    config = ActorConfig(strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=4, **arguments)
    config.global_batch_info.update(loss_scale_factor=BUDGET)
    leaf_BT = case.leaf()
    value, _ = verl.get_policy_loss_fn(loss)(
        old_log_prob=case.old_BT,
        log_prob=leaf_BT,
        advantages=case.advantages_BT,
        response_mask=case.mask_BT.double(),
        loss_agg_mode=mode,
        config=config,
    )
    return case.gradient(value, leaf_BT)


@pytest.mark.parametrize(("name", "settings", "loss", "mode", "theirs"), SAME)
def test_policy_losses_equal_verls(verl, name, settings, loss, mode, theirs):
    case = Case(algorithm(name, **settings))
    value, gradient_BT, clipped = case.carerl()
    their_value, their_gradient_BT = policy_step(verl, case, loss, mode, **theirs)
    assert 0.05 < clipped < 0.99
    agree(f"verl {name}: loss", value, their_value)
    agree(f"verl {name}: gradient in log-probs", gradient_BT, their_gradient_BT)


def test_departure_ratios_are_not_bounded_where_the_advantage_is_negative(verl):
    """verl's dual clip, at 3 by default: a token with A < 0 and a ratio above 3 costs −3·A and has no gradient. Such
    tokens pull hardest towards the old policy; carerl, like PPO, lets them."""
    case = Case(algorithm("dapo", **KEPT), spread=1.2)
    value, gradient_BT, _ = case.carerl()
    their_value, their_gradient_BT = policy_step(verl, case, "vanilla", "token-mean", clip_ratio_c=3.0, **WIDE)
    ratio_BT = (case.logprobs_BT - case.old_BT).exp()
    bounded_BT = case.mask_BT & (case.advantages_BT < 0) & (ratio_BT > 3)
    assert bounded_BT.sum() >= 2
    tokens = case.mask_BT.sum()
    expected_BT = -case.advantages_BT * ratio_BT * bounded_BT / tokens
    agree("departure: verl's dual clip, gradient", gradient_BT - their_gradient_BT, expected_BT)
    extra = float((-case.advantages_BT * (ratio_BT - 3))[bounded_BT].sum() / tokens)
    agree("departure: verl's dual clip, loss", value - their_value, extra)


@pytest.mark.parametrize(("name", "settings", "loss", "mode", "theirs"), [SAME[0], SAME[2], SAME[4]])
def test_departure_an_empty_response_counts_as_a_response(verl, name, settings, loss, mode, theirs):
    """verl leaves it out of the mean over responses (unless told the number of rows): ours · B = verl's · (B − 1).
    Counted, the denominator does not depend on what was sampled."""
    case = Case(algorithm(name, **settings), lengths=((3, 1, 4, 2), (5, 2, 0, 1), (1, 6, 3, 3)))
    value, gradient_BT, _ = case.carerl()
    their_value, their_gradient_BT = policy_step(verl, case, loss, mode, **theirs)
    agree(f"departure: empty response, {name}, loss", value * 12 / 11, their_value)
    agree(f"departure: empty response, {name}, gradient", gradient_BT * 12 / 11, their_gradient_BT)


# ---- advantages ---------------------------------------------------------------------------------


def rewards_and_index(case: Case) -> tuple[Tensor, Any, Tensor]:
    """verl wants a response's reward on one of its tokens."""
    made = graded_groups()
    rewards_B = torch.tensor([sample.reward for group in made for sample in group.samples], dtype=torch.float64)
    on_tokens_BT = torch.zeros(case.mask_BT.shape, dtype=torch.float64)
    on_tokens_BT[:, 0] = rewards_B
    return on_tokens_BT, np.repeat(np.arange(len(made)), 4), rewards_B.reshape(len(made), -1)


def by_verl(function: Any, policy: Algorithm, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """carerl's advantages, verl's, and the rewards (P, G)."""
    case = Case(policy)
    on_tokens_BT, index, rewards_PG = rewards_and_index(case)
    theirs_BT, _ = function(on_tokens_BT, case.mask_BT.double(), index, **settings)
    return case.advantages_BT, theirs_BT, rewards_PG


@pytest.mark.parametrize("variant", ["", "_vectorized"])
def test_group_relative_advantages_equal_verls(verl, variant):
    function = getattr(verl, f"compute_grpo{variant}_outcome_advantage")
    ours, theirs, _ = by_verl(function, algorithm("grpo"), epsilon=1e-4)
    agree(f"verl grpo{variant}: advantages", ours, theirs)
    ours, theirs, _ = by_verl(function, algorithm("dr_grpo", constant_length=BUDGET), norm_adv_by_std_in_grpo=False)
    agree(f"verl dr_grpo{variant}: advantages", ours, theirs)


def test_departure_verl_adds_less_to_the_standard_deviation(verl):
    """1e-6, carerl 1e-4 (as TRL): ours · (std + 1e-4) = verl's · (std + 1e-6)."""
    ours_BT, theirs_BT, rewards_PG = by_verl(verl.compute_grpo_outcome_advantage, algorithm("grpo"))
    std_B1 = rewards_PG.std(dim=1).repeat_interleave(4)[:, None]
    agree("departure: epsilon of the advantages", ours_BT * (std_B1 + 1e-4), theirs_BT * (std_B1 + 1e-6))
    assert distance(ours_BT, theirs_BT) > 1e-4


@pytest.mark.parametrize("variant", ["", "_vectorized"])
def test_leave_one_out_equals_verls(verl, variant):
    ours, theirs, _ = by_verl(getattr(verl, f"compute_rloo{variant}_outcome_advantage"), algorithm("rloo"))
    agree(f"verl rloo{variant}: advantages", ours, theirs)


# ---- the divergence -----------------------------------------------------------------------------


def penalty(verl: Any, case: Case, kind: str) -> tuple[float, Tensor]:
    leaf_BT = case.leaf()
    kl_BT = verl.kl_penalty(leaf_BT, case.ref_BT, kind)
    return case.gradient(BETA * verl.agg_loss(kl_BT, case.mask_BT.double(), "token-mean"), leaf_BT)


def our_penalty(case: Case, estimator: str) -> tuple[float, Tensor]:
    with_penalty = case.carerl(objective("rkl", BETA, estimator, case.policy))
    without = case.carerl()
    return with_penalty[0] - without[0], with_penalty[1] - without[1]


@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_divergences_equal_verls_on_policy(verl, kind):
    case = Case(algorithm("dapo", **KEPT), off_policy=False)
    value, gradient_BT = our_penalty(case, kind)
    their_value, their_gradient_BT = penalty(verl, case, kind)
    agree(f"verl {kind}, on-policy: loss", value, their_value)
    agree(f"verl {kind}, on-policy: gradient in log-probs", gradient_BT, their_gradient_BT)


def test_score_has_the_gradient_of_verls_straight_through_k3(verl):
    """`k3+`: the value of k3 with the gradient of k2, lp − lr: what `score` of reverse KL is."""
    case = Case(algorithm("dapo", **KEPT), off_policy=False)
    agree("verl k3+, score: gradient in log-probs", our_penalty(case, "score")[1], penalty(verl, case, "k3+")[1])


@pytest.mark.parametrize(("estimator", "kind"), [("k2", "k2"), ("k3", "k3"), ("score", "k3+")])
def test_departure_off_policy_the_divergence_is_weighted_by_the_ratio(verl, estimator, kind):
    """verl's is unweighted: an average over the old policy's tokens (objective, departure 2)."""
    case = Case(algorithm("dapo", **KEPT))
    ratio_BT = (case.logprobs_BT - case.old_BT).exp()
    ours_BT, theirs_BT = our_penalty(case, estimator)[1], penalty(verl, case, kind)[1]
    agree(f"departure: {kind} weighted by the ratio", ours_BT, ratio_BT * theirs_BT)
    assert distance(ours_BT, theirs_BT) > 0.1
