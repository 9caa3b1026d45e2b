"""Intervals over questions: against closed forms, equivalences and degenerate data. Coverage: ``test_coverage.py``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from carerl.calibration import (
    auroc,
    auroc_interval,
    bootstrap_interval,
    debiased_ece,
    ece,
    mean_interval,
    share_interval,
    wilson,
)
from carerl.calibration.debiased import gap_moments
from tests.calibration.worlds import WORLDS


def sample(n: int = 200, world: str = "overconfident", seed: int = 0):
    return WORLDS[world].draw(np.random.default_rng(seed), n)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (417, 500)])
def test_wilson_is_scipys(right, n):
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    found = share_interval(np.r_[np.ones(right), np.zeros(n - right)])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_samples_that_repeat_a_question_add_nothing():
    """Every item eight times: the interval of the questions, apart from t in place of z; as if independent it would be
    2.8 times narrower."""
    _, y, _ = sample()
    once, eight = share_interval(y), share_interval(np.repeat(y, 8), np.repeat(np.arange(200), 8))
    assert (eight.low, eight.high) == pytest.approx((once.low, once.high), abs=0.002)
    naive = share_interval(np.repeat(y, 8))
    assert (naive.high - naive.low) < 0.4 * (once.high - once.low)


def test_all_right_in_every_sample_is_as_sure_as_the_number_of_questions():
    found = share_interval(np.ones(160), np.repeat(np.arange(20), 8))
    assert (found.low, found.high) == pytest.approx((wilson(1.0, 20).low, 1.0))


def test_the_order_of_the_data_and_the_names_of_questions_do_not_matter():
    c, y, q = sample(400, "clusters")
    order = np.random.default_rng(1).permutation(400)
    names = np.array([f"{k:03d}" for k in q])
    for function in (lambda c, y, q: share_interval(y, q), auroc_interval, debiased_ece):
        a, b = function(c, y, q), function(c[order], y[order], names[order])
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-9)


def test_studentised_interval_of_normal_data_is_students():
    x = np.random.default_rng(2).normal(3, 2, 400)
    found, expected = mean_interval(x, repeats=10_000), stats.t.interval(0.95, 399, x.mean(), stats.sem(x))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


def test_studentised_interval_leans_to_the_long_tail():
    """Exponential data: the third-order truth lies further above the mean than below; Student's is symmetric."""
    x = np.random.default_rng(3).exponential(1, 60)
    found = mean_interval(x, repeats=5000)
    assert found.high - found.value > 1.2 * (found.value - found.low)


def test_a_mean_moves_and_scales_with_its_data():
    x = np.random.default_rng(4).random(50)
    a, b = mean_interval(x), mean_interval(1000 + 3 * x)
    assert (b.low, b.high) == pytest.approx((1000 + 3 * a.low, 1000 + 3 * a.high), abs=1e-6)


@pytest.mark.parametrize("world", ["overconfident", "votes"])
def test_auroc_variance_is_delongs(world):
    """Without clusters: the variances of the structural components over their numbers, by a double loop."""
    c, y, _ = sample(60, world)
    right, wrong = c[y == 1], c[y == 0]
    kernel = (right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)
    v1, v2 = kernel.mean(1).var(ddof=1) / len(right), kernel.mean(0).var(ddof=1) / len(wrong)
    area = kernel.mean()
    degrees = (v1 + v2) ** 2 / (v1**2 / (len(right) - 1) + v2**2 / (len(wrong) - 1))
    half = stats.t.ppf(0.975, degrees) * np.sqrt(v1 + v2) / (area * (1 - area))
    logit = np.log(area / (1 - area))
    expected = [1 / (1 + np.exp(-(logit + s * half))) for s in (-1, 1)]
    found = auroc_interval(c, y)
    assert found.value == pytest.approx(auroc(c, y))
    assert (found.low, found.high) == pytest.approx(expected)


def test_auroc_at_its_ends():
    found = auroc_interval([0.1, 0.2, 0.3, 0.8, 0.9], [0, 0, 0, 1, 1])
    assert found.value == 1.0 and found.low == pytest.approx(wilson(1.0, 2).low) and found.high == 1.0
    assert np.isnan(auroc_interval([0.1, 0.2], [1, 1]).value)
    one = auroc_interval([0.1, 0.2, 0.3], [1, 0, 0])
    assert one.value == 0.0 and np.isnan(one.low)


def test_bca_of_a_mean_against_scipy():
    x = np.random.default_rng(5).exponential(1, 80)
    expected = stats.bootstrap((x,), np.mean, n_resamples=10_000, method="BCa", rng=0).confidence_interval
    found = bootstrap_interval(lambda w: w @ x / w.sum(axis=1), float(x.mean()), None, 80, repeats=10_000)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    plain = bootstrap_interval(lambda w: w @ x / 80, float(x.mean()), None, 80, repeats=10_000, method="percentile")
    expected = stats.bootstrap((x,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    assert (plain.low, plain.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert plain.high < found.high - 0.005
    with pytest.raises(ValueError, match="method"):
        bootstrap_interval(lambda w: w @ x, 1.0, None, 80, method="normal")


def test_intervals_do_not_depend_on_chunks(monkeypatch):
    x = np.random.default_rng(6).random(50)

    def both():
        a = mean_interval(x)
        b = bootstrap_interval(lambda w: w @ x / 50, float(x.mean()), None, 50)
        return a.low, a.high, b.low, b.high

    whole = both()
    monkeypatch.setattr("carerl.calibration.intervals._CELLS", 700)
    assert both() == pytest.approx(whole, abs=1e-12)


def test_gap_covariance_is_that_of_resampled_questions():
    c, y, q = sample(400, "clusters")
    delta, covariance = gap_moments(c, y, q)
    assert np.abs(delta).sum() == pytest.approx(ece(c, y))
    rng = np.random.default_rng(0)
    rows = np.stack([np.flatnonzero(q == k) for k in range(50)])
    draws = []
    for _ in range(3000):
        picked = rows[rng.integers(0, 50, 50)].reshape(-1)
        index = np.minimum((c[picked] * 10).astype(int), 9)
        draws.append(np.bincount(index, (y - c)[picked], minlength=10) / 400)
    occupied = np.unique(np.minimum((c * 10).astype(int), 9))
    expected = np.cov(np.array(draws)[:, occupied].T) * 50 / 49
    assert covariance == pytest.approx(expected, abs=0.12 * covariance.diagonal().max())


def test_debiased_ece_of_one_bin_by_hand():
    """One bin: delta ~ N(d, s²). 40 items at .5, 30 right: d = .25, s² = (30·.25² + 10·.75²)/40/39. At d/s = 3.6 the
    folded mean exceeds |d| by next to nothing, and the interval is d ± 1.96 s."""
    y = np.r_[np.ones(30), np.zeros(10)]
    s = np.sqrt((30 * 0.25**2 + 10 * 0.75**2) / 40 / 39)
    found = debiased_ece(np.full(40, 0.5), y)
    assert found.value == pytest.approx(0.25, abs=1e-4)
    assert (found.low, found.high) == pytest.approx((0.25 - 1.96 * s, 0.25 + 1.96 * s), abs=0.07 * s)


def test_debiased_ece_of_next_to_nothing():
    """20 of 40 right at .5: the observed ECE is 0, and so is the lower end."""
    found = debiased_ece(np.full(40, 0.5), np.r_[np.ones(20), np.zeros(20)])
    assert found.value == found.low == 0.0 and 0 <= found.high < 0.17


def test_without_data_or_with_one_question_there_is_no_interval():
    empty = np.empty(0)
    for found in (
        share_interval(empty),
        mean_interval(empty),
        auroc_interval(empty, empty),
        debiased_ece(empty, empty),
    ):
        assert np.isnan(found.value) and np.isnan(found.low)
    c, y = np.array([0.2, 0.7, 0.9]), np.array([0.0, 1.0, 1.0])
    for one in (
        share_interval(y, ["q"] * 3),
        mean_interval(c, ["q"] * 3),
        debiased_ece(c, y, ["q"] * 3),
        bootstrap_interval(lambda w: w @ c, 1.8, ["q"] * 3, 3),
    ):
        assert np.isfinite(one.value) and np.isnan(one.low) and np.isnan(one.high)
    constant = mean_interval(np.full(30, 0.1))
    assert constant.low == constant.high == pytest.approx(0.1)


@pytest.mark.parametrize("x", [[0, 0, 0.25, 0, 0], [0, 0, 0, 1, 0], [0.1, 0.1, 0.3, 0.1, 0.1]])
def test_a_resample_of_equal_values_gives_no_finite_bound_of_rounding(x):
    """Of five values with one that differs, a resample in three (.8^5) holds the other four only: no spread, and the
    bound on that side is none. A spread that is a rounding gave millions for a score that is 1 at most."""
    found = mean_interval(np.array(x))
    assert found.high == np.inf
    assert -1 < found.low < found.value


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="questions"):
        share_interval([0, 1], ["q"])
    with pytest.raises(ValueError):
        share_interval([2.0])
    with pytest.raises(ValueError):
        wilson(1.2, 5)
