"""Intervals and tests over few seeds, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from carerl.calibration import holm, paired_t, t_half_width

A = [0.951, 0.947, 0.960, 0.933, 0.958, 0.949, 0.941, 0.955]
B = [0.940, 0.949, 0.938, 0.930, 0.951, 0.935, 0.943, 0.946]


@pytest.mark.parametrize("n", [2, 3, 8])
def test_paired_t_against_scipy(n):
    ours = paired_t(A[:n], B[:n])
    assert ours.difference == pytest.approx(np.mean(A[:n]) - np.mean(B[:n]))
    assert ours.p_value == pytest.approx(stats.ttest_rel(A[:n], B[:n]).pvalue, rel=1e-9)
    greater = stats.ttest_rel(A[:n], B[:n], alternative="greater")
    assert ours.lower_bound == pytest.approx(greater.confidence_interval(0.95).low, rel=1e-9)
    assert (ours.lower_bound > 0) is bool(greater.pvalue < 0.05)


def test_pairs_without_variance():
    assert paired_t([1.0, 2.0], [1.0, 2.0]).p_value == 1.0
    certain = paired_t([1.3, 2.3, 0.3], [1.0, 2.0, 0.0])
    assert certain.p_value < 1e-6 and certain.lower_bound == pytest.approx(0.3)
    exact = paired_t([2.0, 3.0], [1.0, 2.0])
    assert (exact.p_value, exact.lower_bound) == (0.0, 1.0)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_t_interval_against_scipy(level):
    low, high = stats.t.interval(level, len(A) - 1, loc=np.mean(A), scale=stats.sem(A))
    assert t_half_width(A, level) == pytest.approx((high - low) / 2, rel=1e-12)


def test_t_interval_by_hand():
    """(1, 3): mean 2, std √2, standard error 1, t(.975, 1) = 12.7062."""
    assert t_half_width([1.0, 3.0]) == pytest.approx(12.7062, abs=1e-4)


def test_t_interval_covers():
    """1,000 samples of 5: the truth is inside about 950 times; ±1.96 standard errors would manage about 880."""
    rng = np.random.default_rng(0)
    inside = narrow = 0
    for _ in range(1000):
        values = rng.normal(size=5)
        inside += abs(values.mean()) <= t_half_width(values.tolist())
        narrow += abs(values.mean()) <= 1.96 * values.std(ddof=1) / math.sqrt(5)
    assert 925 <= inside <= 970 and narrow < 910


def test_holm_by_hand():
    """(.01, .04, .03, .005): sorted .005·4 = .02, .01·3 = .03, .03·2 = .06, .04·1 → .06 by monotony."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    with pytest.raises(ValueError):
        holm([0.5, math.nan])


def test_too_little_data_is_refused():
    for call in (
        lambda: t_half_width([1.0]),
        lambda: paired_t([1.0], [2.0]),
        lambda: paired_t([1.0, 2.0], [1.0]),
    ):
        with pytest.raises(ValueError):
            call()
