"""What each estimator's gradient expects to, against autograd through the exact divergence.

Vocabularies are enumerated in float64: the numbers are exact, no sampling is involved. Not covered here:
values and limits of the regularizers (``test_regularizers.py``), the sum over a batch
(``tests/loss/test_objective.py``).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from carerl.regularizers import REGULARIZERS, refusal, token_loss
from tests.regularizers.enumerated import (
    CASES,
    build,
    cosine,
    expected_gradient,
    far,
    near,
    per_token_gradients,
    relative_variance,
    scale,
    true_gradient,
)

DISTANCES = {"near": near, "far": far}
by_distance = pytest.mark.parametrize("distance", DISTANCES)
by_case = pytest.mark.parametrize(("name", "settings"), CASES)


def token_losses(name: str, estimator: str, **settings: float):
    regularizer = build(name, **settings)
    return regularizer, lambda lp, lr: token_loss(regularizer, estimator, lp, lr)


def log_m(lp: Tensor, lr: Tensor, alpha: float) -> Tensor:
    """The mixture's log-prob, written from its definition."""
    return (alpha * lp.exp() + (1 - alpha) * lr.exp()).log()


def divergence_by_definition(name: str, settings: dict[str, float], p: Tensor, r: Tensor) -> Tensor:
    alpha = settings.get("alpha", 0.0)
    if name in ("fkl", "sfkl"):
        return (r * (r / (alpha * r + (1 - alpha) * p)).log()).sum()
    if name == "js":
        m = (p + r) / 2
        return ((p * (p / m).log()).sum() + (r * (r / m).log()).sum()) / 2
    return (p * (p / (alpha * p + (1 - alpha) * r)).log()).sum()


@by_distance
@by_case
def test_exact_is_the_divergence_by_its_definition(name, settings, distance):
    logits, logr = DISTANCES[distance]()
    ours = build(name, **settings).exact(logits.log_softmax(-1)[None], logr[None])
    definition = divergence_by_definition(name, settings, logits.softmax(-1), logr.exp())
    assert ours.shape == (1,)
    torch.testing.assert_close(ours[0], definition, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(ours[0], logits)[0],
        torch.autograd.grad(definition, logits)[0],
        rtol=1e-10,
        atol=1e-14,
    )


@by_distance
@by_case
def test_pitfall_04_score_expects_to_the_gradient_of_the_divergence(name, settings, distance):
    logits, logr = DISTANCES[distance]()
    regularizer, loss = token_losses(name, "score", **settings)
    truth = true_gradient(regularizer, logits, logr)
    torch.testing.assert_close(expected_gradient(loss, logits, logr), truth, rtol=1e-10, atol=1e-13)
    if settings.get("alpha") != 1.0:  # where the truth is 0, nothing could fail
        assert truth.norm() > 1e-5


@by_distance
@by_case
def test_pitfall_05_off_policy_samples_are_weighted_by_the_token_ratio(name, settings, distance):
    """Samples of an older policy: weighted they expect to the truth, unweighted they do not. The coefficient
    is the current policy's."""
    logits, logr = DISTANCES[distance]()
    drift = torch.randn(len(logits), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    old = (logits.detach() + drift).softmax(-1)
    regularizer = build(name, **settings)
    rows = []
    for token in range(len(logits)):
        lp = logits.log_softmax(-1)[token]
        ratio = lp.exp() / old[token]  # with gradient: token_loss must detach it
        loss = token_loss(regularizer, "score", lp, logr[token], importance=ratio)
        rows.append(torch.autograd.grad(loss, logits)[0])
    truth = true_gradient(regularizer, logits, logr)
    torch.testing.assert_close(old @ torch.stack(rows), truth, rtol=1e-10, atol=1e-13)
    unweighted = expected_gradient(lambda lp, lr: token_loss(regularizer, "score", lp, lr), logits, logr, sampler=old)
    if settings.get("alpha") != 1.0:
        assert (unweighted - truth).norm() > 0.05 * truth.norm()


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_importance_multiplies_the_other_estimators_too(estimator):
    logits, logr = near()
    old = (logits.detach() * 0.5).softmax(-1)
    regularizer, loss = token_losses("srkl", estimator, alpha=0.8)
    rows = []
    for token in range(len(logits)):
        lp = logits.log_softmax(-1)[token]
        weighted = token_loss(regularizer, estimator, lp, logr[token], importance=lp.exp() / old[token])
        rows.append(torch.autograd.grad(weighted, logits)[0])
    torch.testing.assert_close(old @ torch.stack(rows), expected_gradient(loss, logits, logr))


@by_distance
def test_pitfall_04_k3_at_alpha_0_is_forward_kl(distance):
    logits, logr = DISTANCES[distance]()
    forward = true_gradient(build("fkl"), logits, logr)
    for name, settings in (("rkl", {}), ("srkl", {"alpha": 0.0})):
        regularizer, loss = token_losses(name, "k3", **settings)
        torch.testing.assert_close(expected_gradient(loss, logits, logr), forward, rtol=1e-10, atol=1e-13)
        assert (forward - true_gradient(regularizer, logits, logr)).norm() > 0.1 * forward.norm()


def test_k3_on_reverse_kl_is_score_on_forward_kl_token_by_token():
    logits, logr = near()
    _, k3 = token_losses("rkl", "k3")
    _, score = token_losses("fkl", "score")
    torch.testing.assert_close(
        per_token_gradients(k3, logits, logr), per_token_gradients(score, logits, logr), rtol=1e-10, atol=1e-13
    )


@by_distance
def test_pitfall_04_k2_is_unbiased_at_alpha_0_only(distance):
    logits, logr = DISTANCES[distance]()
    for name, settings in (("rkl", {}), ("srkl", {"alpha": 0.0})):
        regularizer, loss = token_losses(name, "k2", **settings)
        truth = true_gradient(regularizer, logits, logr)
        torch.testing.assert_close(expected_gradient(loss, logits, logr), truth, rtol=1e-10, atol=1e-13)
    for alpha in (0.2, 0.5, 0.8):
        regularizer, loss = token_losses("srkl", "k2", alpha=alpha)
        truth = true_gradient(regularizer, logits, logr)
        assert (expected_gradient(loss, logits, logr) - truth).norm() > 0.01 * truth.norm()


@by_distance
def test_k3_through_the_mixture_is_biased(distance):
    """A usable direction, but another vector: on these two draws cosines of .996 and .974."""
    logits, logr = DISTANCES[distance]()
    regularizer, loss = token_losses("srkl", "k3", alpha=0.8)
    truth = true_gradient(regularizer, logits, logr)
    ours = expected_gradient(loss, logits, logr)
    assert 0.95 < cosine(ours, truth) < 0.998
    assert (ours - truth).norm() > 0.05 * truth.norm()


@by_distance
def test_bare_log_rho_keeps_the_direction_and_loses_the_scale(distance):
    """stop_gradient(log rho) · lp is the penalty put into the reward without its −alpha·rho. Here 5.2 and 3.7
    times the scale; a beta tuned with one form is no beta for the other."""
    logits, logr = DISTANCES[distance]()
    regularizer = build("srkl", alpha=0.8)
    truth = true_gradient(regularizer, logits, logr)
    bare = expected_gradient(lambda lp, lr: regularizer.log_ratio(lp, lr).detach() * lp, logits, logr)
    assert cosine(bare, truth) > 0.95
    assert 3.4 < scale(bare, truth) < 5.5


@by_distance
def test_pitfall_04_k1_as_a_loss(distance):
    """Zero with the mixture held fixed and at alpha = 0; through the mixture it is opposed to the truth
    (cosines −.997 and −.943 here): it drives the policy off the reference."""
    logits, logr = DISTANCES[distance]()
    regularizer = build("srkl", alpha=0.8)
    truth = true_gradient(regularizer, logits, logr)
    fixed = expected_gradient(lambda lp, lr: lp - log_m(lp, lr, 0.8).detach(), logits, logr)
    plain = expected_gradient(lambda lp, lr: build("rkl").log_ratio(lp, lr), logits, logr)
    through = expected_gradient(regularizer.log_ratio, logits, logr)
    assert fixed.abs().max() < 1e-14 and plain.abs().max() < 1e-14
    assert cosine(through, truth) < -0.9
    stepped = (logits.detach() - 0.01 * through / through.norm()).log_softmax(-1)
    before = regularizer.exact(logits.detach().log_softmax(-1)[None], logr[None])
    assert regularizer.exact(stepped[None], logr[None]) > before


@by_distance
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_k3_with_the_mixture_held_fixed_is_forward_kl_times_one_minus_alpha(distance, alpha):
    logits, logr = DISTANCES[distance]()

    def k3_detached(lp: Tensor, lr: Tensor) -> Tensor:
        log_rho = lp - log_m(lp, lr, alpha).detach()
        return (-log_rho).exp() + log_rho - 1

    forward = true_gradient(build("fkl"), logits, logr)
    torch.testing.assert_close(
        expected_gradient(k3_detached, logits, logr), (1 - alpha) * forward, rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize(("distance", "times"), [("near", 100), ("far", 10)])
def test_the_baseline_changes_variance_only(distance, times):
    """Without the baseline the coefficient at the reference is 1 − alpha instead of 0: pure noise, 500 times
    the variance near the reference and 15 times far from it."""
    logits, logr = DISTANCES[distance]()
    regularizer, with_baseline = token_losses("srkl", "score", alpha=0.8)

    def without(lp: Tensor, lr: Tensor) -> Tensor:
        return (regularizer.coefficient(lp, lr) - (0.8 - 1)).detach() * lp

    truth = true_gradient(regularizer, logits, logr)
    torch.testing.assert_close(expected_gradient(without, logits, logr), truth, rtol=1e-9, atol=1e-13)
    assert relative_variance(without, logits, logr) > times * relative_variance(with_baseline, logits, logr)


def test_at_the_reference_score_has_no_gradient_at_all_for_any_token():
    """A fresh run starts without the regularizer's noise: not in the mean, token by token."""
    _, logr = near()
    logits = logr.clone().requires_grad_()
    for name, settings in CASES:
        for dtype in (torch.float32, torch.float64):
            lp = logits.to(dtype)
            coefficient = build(name, **settings).coefficient(lp, lp.detach())
            assert torch.equal(coefficient, torch.zeros_like(coefficient)), (name, settings, dtype)


def test_a_curvature_of_one_minus_alpha_squared():
    """Near the reference skew reverse KL is (1 − alpha)² of reverse KL: at .8, 25 times weaker at equal beta."""
    _, logr = near()
    policy = (logr + 1e-3 * torch.linspace(-1, 1, len(logr), dtype=torch.float64)).log_softmax(-1)
    weak = build("srkl", alpha=0.8).exact(policy[None], logr[None])
    strong = build("rkl").exact(policy[None], logr[None])
    assert float(strong / weak) == pytest.approx(25, rel=2e-3)


@by_distance
def test_skew_forward_kl_is_skew_reverse_kl_with_the_roles_exchanged(distance):
    """KL(r ‖ alpha r + (1 − alpha) p) is KL(p ‖ alpha p + (1 − alpha) r) with p and r exchanged."""
    logits, logr = DISTANCES[distance]()
    logp = logits.detach().log_softmax(-1)
    for alpha in (0.2, 0.8):
        ours = build("sfkl", alpha=alpha).exact(logp[None], logr[None])
        torch.testing.assert_close(ours, build("srkl", alpha=alpha).exact(logr[None], logp[None]), rtol=1e-12, atol=0)


@by_distance
def test_jensen_shannon_is_symmetric_and_the_mean_of_the_two_skew_divergences(distance):
    logits, logr = DISTANCES[distance]()
    logp = logits.detach().log_softmax(-1)[None]
    js = build("js").exact(logp, logr[None])
    torch.testing.assert_close(js, build("js").exact(logr[None], logp), rtol=1e-12, atol=0)
    halves = [build(name, alpha=0.5).exact(logp, logr[None]) for name in ("srkl", "sfkl")]
    torch.testing.assert_close(js, (halves[0] + halves[1]) / 2, rtol=1e-12, atol=0)


def test_jensen_shannon_is_at_most_log_2():
    """Disjoint supports: m is half of each, so that both parts are log 2."""
    logp = torch.tensor([[0.0, -300.0]], dtype=torch.float64)
    assert float(build("js").exact(logp, logp.flip(1))) == pytest.approx(math.log(2), rel=1e-12)


def test_strengths_near_the_reference():
    """To second order reverse KL is ½ E[d²]; Jensen–Shannon is a quarter of it, skew forward KL (1 − alpha)²."""
    _, logr = near()
    policy = (logr + 1e-3 * torch.linspace(-1, 1, len(logr), dtype=torch.float64)).log_softmax(-1)
    reverse = float(build("rkl").exact(policy[None], logr[None]))
    assert float(build("js").exact(policy[None], logr[None])) == pytest.approx(reverse / 4, rel=2e-3)
    assert float(build("sfkl", alpha=0.8).exact(policy[None], logr[None])) == pytest.approx(reverse / 25, rel=2e-3)


def test_refusals_name_their_reason():
    reasons = {name: REGULARIZERS[name].config.no_log_ratio for name in ("rkl", "srkl", "fkl", "sfkl", "js")}
    for reason in reasons.values():
        assert "expected gradient" in (refusal("k1", reason) or "")
        assert refusal("score", reason) is None and refusal("full", reason) is None
    for estimator in ("k2", "k3"):
        assert refusal(estimator, reasons["rkl"]) is None and refusal(estimator, reasons["srkl"]) is None
        for name, word in (("fkl", "forward KL"), ("sfkl", "skew forward KL"), ("js", "Jensen")):
            reason = refusal(estimator, reasons[name]) or ""
            assert "log-ratio" in reason and word in reason
            with pytest.raises(ValueError, match="log-ratio"):
                token_loss(build(name), estimator, torch.zeros(3), torch.zeros(3))
    assert "score" in (refusal("sore") or "")


@pytest.mark.parametrize("estimator", ["k1", "full", "nonsense"])
def test_what_is_no_token_loss_is_refused(estimator):
    zeros = torch.zeros(3)
    with pytest.raises(ValueError, match=r"k1|exact|no estimator"):
        token_loss(build("rkl"), estimator, zeros, zeros)


def test_the_optimum_on_a_bandit_drops_arms_that_a_bounded_price_lets_go():
    """Gradient ascent on E[r] − beta · divergence ends at p = (1 − alpha) q rho / (1 − alpha rho) with
    log rho − alpha rho = (r − lambda)/beta: the optimum from the paper's objective, by bisection on lambda."""
    alpha, beta = 0.8, 2.0
    q = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    reward = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)

    def rho_of(target: float) -> float:  # log rho − alpha rho grows on (0, 1/alpha)
        low, high = -60.0, math.log(1 / alpha)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if middle - alpha * math.exp(middle) < target else (low, middle)
        return math.exp(low)

    def arms(multiplier: float) -> Tensor:
        rho = torch.tensor([rho_of((float(r) - multiplier) / beta) for r in reward], dtype=torch.float64)
        return (1 - alpha) * q * rho / (1 - alpha * rho)

    low, high = 1.0 + beta * (1 - math.log(1 / alpha)), 60.0  # below: some rho would reach 1/alpha
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(arms(middle).sum()) > 1 else (low, middle)
    optimum = arms(low)

    regularizer = build("srkl", alpha=alpha)
    logits = q.log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], lr=1, max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logp = logits.log_softmax(-1)
        value = -(logp.exp() * reward).sum() + beta * regularizer.exact(logp[None], q.log()[None])[0]
        value.backward()
        return value

    optimizer.step(loss)
    torch.testing.assert_close(logits.detach().softmax(-1), optimum, rtol=1e-4, atol=1e-6)
