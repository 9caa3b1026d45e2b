"""A task of one token, whose optimal policy is known: what objective, advantages and penalty lead to together.

Maximise Σ p_i r_i − beta · KL(p ‖ alpha p + (1 − alpha) q). With rho = p/(alpha p + (1 − alpha) q) the optimum has

    log rho_i − alpha rho_i = (r_i − lambda)/beta        p_i = (1 − alpha) q_i rho_i/(1 − alpha rho_i)

and lambda makes the p_i add up to 1; solved here by bisection. The policy is a softmax of logits, which are given to
``token_statistics`` as the head of a hidden state of 1; groups, batches, denominators and loss are the pipeline's own.
Models, rollouts and the learner are not in this: they are in ``tests/backends`` and ``tests/e2e``.
"""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor

from carerl.algorithms import Algorithm
from carerl.loss.batching import make_batch, normalisers
from carerl.loss.head import FactoredLogits, token_statistics
from carerl.loss.objective import Objective
from carerl.loss.streams import flatten
from carerl.regularizers import REGULARIZERS
from carerl.types import Example, Group, Sample
from tests.loss.batches import algorithm

REWARDS = (1.0, 0.5, 0.25, 0.0)  # exact in float32, in which advantages are stored, as are the means of pairs
PRIOR = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
BETA = 2.0
ALPHAS = [0.2, 0.5, 0.8]
EXAMPLE = Example("bandit", (0,), "")


def bisect(function, low: float, high: float) -> float:
    """Where an increasing function crosses 0."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2


@functools.cache
def optimum(alpha: float, rewards: tuple[float, ...] = REWARDS) -> Tensor:
    """By bisection: for a lambda each arm's log(p/q), with which log rho − alpha rho grows; then lambda."""

    def policy(lam: float) -> list[float]:
        found = []
        for reward, prior in zip(rewards, PRIOR.tolist(), strict=True):

            def excess(gap: float, wanted: float = (reward - lam) / BETA) -> float:
                rho = 1 / (alpha + (1 - alpha) * math.exp(-gap))
                return math.log(rho) - alpha * rho - wanted

            gap = bisect(excess, -60.0, 60.0)
            rho = 1 / (alpha + (1 - alpha) * math.exp(-gap))
            assert excess(gap) == pytest.approx(0, abs=1e-9) or gap > 59, "an arm beyond the price has no finite p"
            found.append(prior * math.exp(gap) if gap > 30 else (1 - alpha) * prior * rho / (1 - alpha * rho))
        return found

    lam = bisect(lambda lam: 1 - sum(policy(lam)), -20.0, 20.0)
    p = torch.tensor(policy(lam), dtype=torch.float64)
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    return p


def objective(policy: Algorithm, alpha: float, estimator: str) -> Objective:
    entry = REGULARIZERS["srkl"]
    return Objective(policy, entry.build(entry.config(alpha=alpha)), BETA, estimator)


def loss_of(logits_V: Tensor, groups: list[list[int]], policy: Algorithm, target: Objective) -> Tensor:
    """The pipeline's loss of groups of arms, on policy and unclipped: there are no old log-probs."""
    lr_V = PRIOR.log()
    made = [
        Group(EXAMPLE, [Sample("bandit", (arm,), (0.0,), False, (0, 0), reward=REWARDS[arm]) for arm in g])
        for g in groups
    ]
    batch = make_batch(made, policy, temperature=1.0)
    arms_N = batch.input_ids_BS[:, 1]
    batch = batch.with_streams(ref_logprobs_BT=lr_V[arms_N][:, None])
    one_N1 = torch.ones(len(arms_N), 1, dtype=torch.float64)
    stats = token_statistics(
        FactoredLogits(one_N1, logits_V[:, None]),
        arms_N,
        temperature=1.0,
        chunk_tokens=64,
        reference=None if target.exact is None else FactoredLogits(one_N1, lr_V[:, None]),
        exact=target.exact,
    )
    return target(stats, flatten(batch), normalisers(batch, policy)).loss


def expected_gradient(p: Tensor, policy: Algorithm, alpha: float, estimator: str) -> Tensor:
    """Of the loss, over all pairs of arms that a group of two can be."""
    logits_V = p.log().requires_grad_()
    total = torch.zeros_like(p)
    target = objective(policy, alpha, estimator)
    for pair in itertools.product(range(len(p)), repeat=2):
        (gradient,) = torch.autograd.grad(loss_of(logits_V, [list(pair)], policy, target), logits_V)
        total += p[pair[0]] * p[pair[1]] * gradient
    return total


def trained(policy: Algorithm, alpha: float, estimator: str, group: int) -> Tensor:
    """150 steps of Adam on 256 sampled arms, the rate falling to 0; the mean policy of the last half."""
    generator = torch.Generator().manual_seed(0)
    logits_V = PRIOR.log().requires_grad_()
    optimizer = torch.optim.Adam([logits_V], lr=0.2, betas=(0.9, 0.99))
    target, steps, rows, mean = objective(policy, alpha, estimator), 150, 256, torch.zeros_like(PRIOR)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / steps)
        p = logits_V.detach().softmax(-1)
        arms = torch.multinomial(p, rows, replacement=True, generator=generator).reshape(-1, group).tolist()
        optimizer.zero_grad()
        loss_of(logits_V, arms, policy, target).backward()
        optimizer.step()
        if step >= steps // 2:
            mean += logits_V.detach().softmax(-1) / (steps - steps // 2)
    return mean


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_closed_form_is_the_best_policy(alpha: float) -> None:
    """Nothing near it is better, by the definitions alone."""
    rewards = torch.tensor(REWARDS, dtype=torch.float64)

    def worth(p: Tensor) -> float:
        return float((p * rewards).sum() - BETA * (p * (p / (alpha * p + (1 - alpha) * PRIOR)).log()).sum())

    best, generator = optimum(alpha), torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(100):
            noise = size * torch.randn(len(best), generator=generator, dtype=torch.float64)
            assert worth((best.log() + noise).softmax(-1)) < worth(best)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("estimator", ["full", "score"])
def test_the_expected_gradient_vanishes_at_the_closed_form_and_not_at_the_prior(alpha: float, estimator: str) -> None:
    rloo = algorithm("rloo")
    assert float(expected_gradient(optimum(alpha), rloo, alpha, estimator).abs().max()) < 1e-12
    assert float(expected_gradient(PRIOR, rloo, alpha, estimator).abs().max()) > 0.05
    biased = expected_gradient(optimum(alpha), rloo, alpha, "k3")
    assert float(biased.abs().max()) > 5e-3, "the test can fail: k3 has another optimum"


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("estimator", ["full", "score"])
def test_training_on_sampled_arms_arrives_at_the_closed_form(alpha: float, estimator: str) -> None:
    assert float((optimum(alpha) - PRIOR).abs().max()) > 0.08, "the way there is longer than the tolerance"
    found = trained(algorithm("rloo"), alpha, estimator, group=16)
    assert float((found - optimum(alpha)).abs().max()) < 1e-2


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_group_mean_that_includes_the_sample_has_the_optimum_of_smaller_rewards(alpha: float) -> None:
    """GRPO without the standard deviation: r minus the mean over all G is (G − 1)/G of RLOO's advantage, so that every
    reward counts (G − 1)/G against the same penalty: half of it in pairs."""
    pairs = algorithm("grpo", advantage_std=False)
    right, moved = optimum(alpha), optimum(alpha, tuple(reward / 2 for reward in REWARDS))
    assert float((right - moved).abs().max()) > 0.04
    assert float(expected_gradient(moved, pairs, alpha, "full").abs().max()) < 1e-12
    assert float(expected_gradient(right, pairs, alpha, "full").abs().max()) > 0.04
    found = trained(pairs, alpha, "full", group=2)
    assert float((found - moved).abs().max()) < 1e-2
    assert float((found - right).abs().max()) > 0.03
