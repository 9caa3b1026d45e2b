"""p-values of paired differences: that they say what the intervals say, and 1 where nothing differs.

The differences themselves and their coverage are in ``test_measure.py``."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carerl.calibration import Judged, paired_differences
from tests.calibration.worlds import WORLDS

TESTED = ("accuracy", "overconfidence", "ece_debiased", "brier", "nll", "auroc")


def judged(c, y) -> Judged:
    return Judged(c, y, tuple(f"q{k}" for k in range(len(c))), np.arange(len(c)))


def pair(n: int, noise: float, lost: float, seed: int) -> tuple[Judged, Judged]:
    """A model and one that is noisier, overconfident, and wrong at a share ``lost`` of what the first has right."""
    c, y, _ = WORLDS["calibrated"].draw(np.random.default_rng(seed), n)
    rng = np.random.default_rng([seed, 1])
    other = np.clip(c + rng.normal(noise, noise, n), 0, 1)
    return judged(c, y), judged(other, np.where(rng.random(n) < lost, 0.0, y))


@pytest.mark.parametrize("noise", [0.02, 0.08])
@pytest.mark.parametrize("metric", TESTED)
def test_p_is_below_alpha_exactly_where_the_interval_excludes_0(metric, noise):
    """At levels of 80 to 99.6 %. Where p is within 3 % of alpha, rounding of quantiles decides: nothing is asserted."""
    a, b = pair(200, noise, noise, 3)
    options = {"metrics": (metric,), "coverages": (), "repeats": 2000, "draws": 2000}
    p = paired_differences(a, b, **options)[metric].p
    compared = 0
    for alpha in (0.2, 0.1, 0.05, 0.02, 0.01, 0.004):
        if abs(math.log(p / alpha)) < 0.03:
            continue
        found = paired_differences(a, b, level=1 - alpha, **options)[metric]
        assert found.p == p, "p does not depend on the level asked for"
        assert (0.0 not in found) is (p < alpha), (alpha, p, found)
        compared += 1
    assert compared >= 5


def test_turned_around_the_p_values_are_the_same():
    a, b = pair(200, 0.05, 0.05, 5)
    options = {"metrics": ("accuracy", "auroc"), "coverages": ()}
    forth, back = paired_differences(a, b, **options), paired_differences(b, a, **options)
    assert {n: e.p for n, e in forth.items()} == pytest.approx({n: e.p for n, e in back.items()}, rel=1e-9)


def test_without_a_difference_p_is_1():
    a, _ = pair(100, 0.05, 0.05, 1)
    found = paired_differences(a, a, metrics=TESTED, coverages=(), repeats=200, draws=200)
    assert {name: e.p for name, e in found.items()} == dict.fromkeys(TESTED, 1.0)


def test_p_has_the_least_value_that_its_resamples_allow():
    c = np.linspace(0.6, 0.99, 100)
    a, b = judged(c, np.ones(100)), judged(1 - c, np.ones(100))
    found = paired_differences(a, b, metrics=("brier", "ece_debiased"), coverages=(), repeats=999, draws=400)
    assert found["brier"].p == pytest.approx(2 / 1000) and found["ece_debiased"].p == pytest.approx(2 / 400)


def test_known_probabilities_have_no_auroc_and_no_warning():
    c = np.linspace(0.3, 0.9, 50)
    found = paired_differences(judged(c, c), judged(c, c**2), coverages=(), repeats=50, draws=50)
    assert math.isnan(found["auroc"].value) and found["auroc"].p is None and found["brier"].p is not None


def test_areas_that_do_not_vary_have_no_interval_where_they_differ():
    """One ranks everything right, the other nothing: neither varies, and a difference without width is no proof."""
    y = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    found = paired_differences(judged(y, y), judged(np.full(6, 0.5), y), metrics=("auroc",), coverages=())["auroc"]
    assert found.value == 0.5 and math.isnan(found.low) and found.p is None


@pytest.mark.parametrize("metric", ["accuracy", "auroc", "brier"])
def test_two_models_that_are_alike_are_told_apart_in_one_case_of_twenty(metric):
    """400 pairs of one world with labels of their own: p < .05 in 5 %, with a standard error of 1.1 points."""
    low = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        p = rng.beta(5, 2, 120)
        a, b = (judged(np.clip(p + rng.normal(0, 0.05, 120), 0, 1), (rng.random(120) < p) * 1.0) for _ in range(2))
        low += paired_differences(a, b, metrics=(metric,), coverages=(), repeats=200)[metric].p < 0.05
    assert 0.015 <= low / 400 <= 0.085
