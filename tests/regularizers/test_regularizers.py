"""Values, bounds and end points of the regularizers, and what floating point does to them.

That the estimators' gradients are right is in ``test_estimators.py``.
"""

from __future__ import annotations

import math

import pytest
import torch

from carerl.regularizers import REGULARIZERS, refusal, token_loss
from carerl.regularizers.base import EXP_LIMIT, safe_exp, skew_log_ratio
from tests.regularizers.enumerated import CASES, build, far, near

EDGES = (1e-9, 1 - 1e-9)
INNER_ALPHAS = [0.2, 0.5, 0.8, 0.9, 0.95]


@pytest.mark.parametrize(
    ("alpha", "bound"),
    # log(1/alpha) − 1 + alpha: log 2 − .5 = .19315; log 1.25 − .2 = .02314; log(10/9) − .1 = .00536
    [(0.5, 0.1931), (0.8, 0.0231), (0.9, 0.0054)],
)
def test_a_confident_token_pays_a_bounded_price(alpha, bound):
    """The bound is approached from below as the reference's probability goes to 0, and never crossed."""
    gaps = torch.linspace(-50, 200, 5001, dtype=torch.float64)
    coefficient = build("srkl", alpha=alpha).coefficient(gaps, torch.zeros_like(gaps))
    supremum = math.log(1 / alpha) - 1 + alpha
    assert supremum == pytest.approx(bound, abs=5e-5)
    assert float(coefficient.max()) <= supremum + 1e-15
    assert float(coefficient[-1]) == pytest.approx(supremum, rel=1e-12)
    assert bool((coefficient.diff() >= -1e-15).all()), "the coefficient grows with the gap"


@pytest.mark.parametrize("alpha", INNER_ALPHAS)
def test_a_forgotten_token_is_pulled_back_without_limit(alpha):
    """Far under the reference rho = p/((1 − alpha) r), so that the coefficient follows the gap one to one:
    log rho + alpha = gap − log(1 − alpha) + alpha."""
    gaps = torch.tensor([-40.0, -100.0, -200.0], dtype=torch.float64)
    coefficient = build("srkl", alpha=alpha).coefficient(gaps, torch.zeros_like(gaps))
    torch.testing.assert_close(coefficient, gaps - math.log(1 - alpha) + alpha, rtol=1e-12, atol=1e-12)


def test_pitfall_06_alpha_multiplies_the_policy():
    """alpha = .9: where the policy is far above the reference the mixture is nearly the policy, log rho <=
    log(1/.9) = .105; where it is far below the mixture is a tenth of the reference. The swapped mixture
    would give 2.3 and −.1."""
    skew = build("srkl", alpha=0.9)
    above = skew.log_ratio(torch.tensor([-0.1]), torch.tensor([-20.0]))
    below = skew.log_ratio(torch.tensor([-20.0]), torch.tensor([-0.1]))
    assert float(above) == pytest.approx(math.log(1 / 0.9), abs=1e-6)
    assert float(below) == pytest.approx(-19.9 - math.log(0.1), abs=1e-4)


@pytest.mark.parametrize("distance", [near, far])
def test_pitfall_06_end_points(distance):
    """alpha = 0 is reverse KL in every function; alpha = 1 is no penalty, with exact zeros."""
    logits, logr = distance()
    lp = logits.log_softmax(-1)
    zero, one, reverse = build("srkl", alpha=0.0), build("srkl", alpha=1.0), build("rkl")
    for function in ("coefficient", "value", "log_ratio"):
        ours, theirs = getattr(zero, function)(lp, logr), getattr(reverse, function)(lp, logr)
        torch.testing.assert_close(ours, theirs, rtol=1e-15, atol=0)
        assert torch.equal(getattr(one, function)(lp, logr), torch.zeros_like(lp)), function
    assert torch.equal(zero.exact(lp[None], logr[None]), reverse.exact(lp[None], logr[None]))
    assert float(one.exact(lp[None], logr[None]).detach()) == 0.0
    (gradient,) = torch.autograd.grad(one.exact(lp[None], logr[None])[0], logits)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("distance", [near, far])
def test_pitfall_06_end_points_of_skew_forward_kl(distance):
    """alpha multiplies the reference: alpha = 0 is forward KL in every function, alpha = 1 is no penalty."""
    logits, logr = distance()
    lp = logits.log_softmax(-1)
    zero, one, forward = build("sfkl", alpha=0.0), build("sfkl", alpha=1.0), build("fkl")
    for function in ("coefficient", "value"):
        ours, theirs = getattr(zero, function)(lp, logr), getattr(forward, function)(lp, logr)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
        assert torch.equal(getattr(one, function)(lp, logr), torch.zeros_like(lp)), function
    torch.testing.assert_close(
        zero.exact(lp[None], logr[None]), forward.exact(lp[None], logr[None]), rtol=1e-15, atol=0
    )
    (gradient,) = torch.autograd.grad(one.exact(lp[None], logr[None])[0], logits)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("name", ["srkl", "sfkl"])
@pytest.mark.parametrize("distance", [near, far])
def test_the_ends_are_approached_continuously(distance, name):
    logits, logr = distance()
    lp = logits.detach().log_softmax(-1)[None]
    for edge, inner in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
        at, beside = (build(name, alpha=a).exact(lp, logr[None]) for a in (edge, inner))
        torch.testing.assert_close(beside, at, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("alpha", "low", "high"),
    # −(1 − alpha)²/alpha and 1 − alpha: −.25/.5 and .5; −.04/.8 and .2
    [(0.5, -0.5, 0.5), (0.8, -0.05, 0.2)],
)
def test_skew_forward_kl_pays_bounded_prices_on_both_sides(alpha, low, high):
    gaps = torch.linspace(-200, 200, 5001, dtype=torch.float64)
    coefficient = build("sfkl", alpha=alpha).coefficient(gaps, torch.zeros_like(gaps))
    assert float(coefficient[0]) == pytest.approx(low, rel=1e-12)
    assert float(coefficient[-1]) == pytest.approx(high, rel=1e-12)
    assert bool((coefficient.diff() >= -1e-15).all()), "the coefficient grows with the gap"


def test_jensen_shannon_is_bounded_above_and_unbounded_below():
    """½ log(p/m): at most ½ log 2; far under the reference m = r/2, so ½ (gap + log 2)."""
    gaps = torch.tensor([200.0, 0.0, -200.0], dtype=torch.float64)
    coefficient = build("js").coefficient(gaps, torch.zeros_like(gaps))
    assert coefficient.tolist() == pytest.approx([math.log(2) / 2, 0.0, -100 + math.log(2) / 2], rel=1e-12)


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("distance", [near, far])
def test_value_is_nonnegative_with_the_divergence_as_its_mean(name, settings, distance):
    logits, logr = distance()
    lp = logits.log_softmax(-1)
    regularizer = build(name, **settings)
    value = regularizer.value(lp, logr)
    assert not value.requires_grad and bool((value >= 0).all())
    mean = (lp.exp() * value).sum().detach()
    torch.testing.assert_close(mean, regularizer.exact(lp[None], logr[None])[0].detach(), rtol=1e-10, atol=1e-13)


FINITE_CASES = [
    (name, settings, estimator)
    for name, settings in [*CASES, *((name, {"alpha": a}) for name in ("srkl", "sfkl") for a in EDGES)]
    for estimator in ("score", "k2", "k3")
    if refusal(estimator, REGULARIZERS[name].config.no_log_ratio) is None
]


@pytest.mark.parametrize(("name", "settings", "estimator"), FINITE_CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_at_gaps_of_200_nats(name, settings, estimator, dtype):
    regularizer = build(name, **settings)
    lp = torch.tensor([-200.0, -100.0, 0.0, 0.0, -1e-6, -201.0, -200.0], dtype=dtype, requires_grad=True)
    lr = torch.tensor([0.0, 0.0, -100.0, -200.0, -200.0, -1.0, -200.0], dtype=dtype)
    loss = token_loss(regularizer, estimator, lp, lr)
    (gradient,) = torch.autograd.grad(loss.sum(), lp)
    for tensor in (loss, gradient, regularizer.value(lp, lr), regularizer.coefficient(lp, lr)):
        assert bool(torch.isfinite(tensor).all()), tensor
    if settings.get("alpha") != 1.0:
        assert bool((gradient[:2] < 0).all()), "a token under the reference is raised"
        assert bool((gradient[2:5] >= 0).all()), "a token above the reference is not"


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_exact_is_finite_far_from_the_reference(name, settings):
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    logr = torch.tensor([[-200.0, 0.0, 200.0]]).log_softmax(-1)
    divergence = build(name, **settings).exact(logits.log_softmax(-1), logr)
    (gradient,) = torch.autograd.grad(divergence.sum(), logits)
    assert bool(torch.isfinite(divergence).all()) and bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("alpha", INNER_ALPHAS)
def test_the_gradient_of_the_log_ratio_is_right_on_both_sides(alpha):
    """Written out by hand in the code: here autograd's, and (1 − alpha) e^−d / (alpha + (1 − alpha) e^−d) far away,
    where 1 − alpha · rho would have lost all digits."""
    d = torch.linspace(-6, 6, 241, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(skew_log_ratio(d, alpha).sum(), d)
    (theirs,) = torch.autograd.grad(-(alpha + (1 - alpha) * (-d).exp()).log().sum(), d)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    far_d = torch.tensor([-40.0, 40.0, 80.0], dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(skew_log_ratio(far_d, alpha).sum(), far_d)
    tail = [(1 - alpha) / alpha * math.exp(-gap) for gap in (40, 80)]
    torch.testing.assert_close(ours, torch.tensor([1.0, *tail], dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda x: skew_log_ratio(x, alpha), d)


def test_the_naive_mixture_fails_where_ours_does_not():
    """The test above can fail: log of summed exps in float32 has a NaN gradient from −100 nats on."""
    lp = torch.tensor([-110.0], requires_grad=True)
    lr = torch.tensor([-110.0])
    naive = lp - (0.8 * lp.exp() + 0.2 * lr.exp()).log()
    (gradient,) = torch.autograd.grad(naive.sum(), lp)
    assert not bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_float32_keeps_the_digits_near_the_reference(name, settings):
    """At a gap of 1e-3 nats the coefficient is (1 − alpha)² · 1e-3: 4e-5 at .8, with log-probs of −12. Taken
    through log m = logaddexp(…) it would carry the rounding of −12, 1e-6."""
    lr = torch.full((5,), -12.0)
    lp = lr + torch.tensor([-1e-2, -1e-3, 0.0, 1e-3, 1e-2])
    regularizer = build(name, **settings)
    single, double = regularizer.coefficient(lp, lr), regularizer.coefficient(lp.double(), lr.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_bfloat16_is_computed_in_float32_and_float64_stays(name, settings):
    generator = torch.Generator().manual_seed(3)
    lp = (-3 * torch.rand(64, generator=generator)).bfloat16()
    lr = (-3 * torch.rand(64, generator=generator)).bfloat16()
    regularizer = build(name, **settings)
    for function in ("coefficient", "value"):
        from_half = getattr(regularizer, function)(lp, lr)
        assert from_half.dtype == torch.float32
        assert torch.equal(from_half, getattr(regularizer, function)(lp.float(), lr.float()))
        assert getattr(regularizer, function)(lp.double(), lr).dtype == torch.float64
    assert regularizer.exact(lp[None], lr[None]).dtype == torch.float32
    assert regularizer.exact(lp[None].double(), lr[None].double()).dtype == torch.float64


def test_bfloat16_arithmetic_would_be_too_coarse():
    """Why the above matters: the same formula in bfloat16, on the same inputs, errs by more than a sixth of the
    largest coefficient."""
    lp = torch.linspace(-8, -0.1, 30).bfloat16()
    lr = lp - torch.linspace(-1, 3, 30).bfloat16()
    log_m = torch.logaddexp(lp + math.log(0.8), lr + math.log(0.2))
    coarse = (lp - log_m) - 0.8 * torch.expm1(lp - log_m)
    error = (coarse.float() - build("srkl", alpha=0.8).coefficient(lp, lr)).abs().max()
    assert coarse.dtype == torch.bfloat16
    assert float(error) > 0.0231 / 6


def test_none_is_zero_with_zero_gradient():
    logits, logr = near()
    lp = logits.log_softmax(-1)
    regularizer = build("none")
    assert regularizer.coefficient(lp, logr).abs().sum() == 0 and regularizer.value(lp, logr).abs().sum() == 0
    total = regularizer.exact(lp[None], logr[None]).sum() + regularizer.log_ratio(lp, logr).sum()
    (gradient,) = torch.autograd.grad(total, logits)
    assert float(total.detach()) == 0.0 and gradient.abs().sum() == 0


@pytest.mark.parametrize("name", ["srkl", "sfkl"])
@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf])
def test_alpha_outside_the_unit_interval_is_refused(alpha, name):
    with pytest.raises(ValueError, match="alpha"):
        build(name, alpha=alpha)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match="shape"):
        build(name).coefficient(torch.zeros(4), torch.zeros(1))


def test_safe_exp_goes_on_as_its_tangent():
    x = torch.tensor([-5.0, 0.0, EXP_LIMIT, EXP_LIMIT + 2, 300.0], dtype=torch.float64, requires_grad=True)
    y = safe_exp(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    top = math.exp(EXP_LIMIT)
    expected = [math.exp(-5), 1.0, top, top * 3, top * (1 + 300 - EXP_LIMIT)]
    torch.testing.assert_close(y.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(slope[[0, 1]], y.detach()[[0, 1]], rtol=1e-12, atol=0)
    torch.testing.assert_close(slope[3:], torch.full((2,), top, dtype=torch.float64), rtol=1e-12, atol=0)
