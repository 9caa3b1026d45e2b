"""Metrics by hand and by enumeration. Against libraries: ``test_against_scikit_learn.py`` and ``tests/peers``."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest

from carerl.calibration import (
    accuracy_at_coverage,
    aurc,
    auroc,
    brier,
    brier_decomposition,
    ece,
    mce,
    nll,
    pass_at_k,
    risk_coverage,
)
from carerl.calibration.ranking import RankedBlocks
from tests.calibration.random_inputs import random_input


def test_maximum_and_equal_count_errors_by_hand():
    """The first are the bins of ``test_ece_by_hand``: gaps .275 (two items), .2 (one), .45 (two)."""
    c, y = [0.2, 0.25, 0.8, 0.9, 1.0], [0, 1, 1, 1, 0]
    assert mce(c, y) == pytest.approx(0.45)
    # two bins of equal counts, but for a tie of three: gaps .1 (one item) and |1/3 − .5| (three)
    c, y = [0.1, 0.5, 0.5, 0.5], [0, 1, 0, 0]
    assert ece(c, y, bins=2, scheme="count") == pytest.approx((3 * (1 / 6) + 0.1) / 4)
    assert np.isnan(mce([], []))


def test_scores_of_a_known_probability_are_expectations_over_the_label():
    p = 0.3
    for score in (brier, nll):
        expected = p * score([0.8], [1]) + (1 - p) * score([0.8], [0])
        assert score([0.8], [p]) == pytest.approx(expected)


def test_nll_by_hand_and_its_bound():
    assert nll([0.5, 0.25], [1, 0]) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert nll([1.0], [0]) == pytest.approx(-np.log(1e-3))
    assert nll([1.0], [0], clip=1 / 32) == pytest.approx(np.log(32))
    with pytest.raises(ValueError, match="clip"):
        nll([0.5], [1], clip=0.5)


def test_decomposition_by_hand():
    """Bins .25 (0, 1) and .75 (1, 1): a = .5 and 1, overall .75. Reliability ½·.0625 + ½·.0625; resolution ½·.0625·2;
    uncertainty .1875; Brier (.0625 + .5625 + .0625 + .0625)/4 = .1875."""
    found = brier_decomposition([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1])
    assert (found.reliability, found.resolution, found.uncertainty) == pytest.approx((0.0625, 0.0625, 0.1875))
    assert found.within == pytest.approx(0.0)


def test_decomposition_adds_up_and_leaves_nothing_within_bins_of_one_value():
    for seed in range(200):
        _, c, y = random_input(seed)
        for debiased in (False, True):
            for scheme in ("width", "count", "unique"):
                d = brier_decomposition(c, y, scheme=scheme, debiased=debiased)
                assert d.reliability - d.resolution + d.uncertainty + d.within == pytest.approx(brier(c, y))
                if scheme == "unique":
                    assert d.within == pytest.approx(0.0, abs=1e-12)


def test_debiased_reliability_and_uncertainty_are_unbiased_by_enumeration():
    """Three items at .2 with p = .5, two at .9 with p = .6: the expectation over all 32 labellings is the population's.
    The plain reliability is not."""
    c, p = np.array([0.2] * 3 + [0.9] * 2), np.array([0.5] * 3 + [0.6] * 2)
    plain, debiased = 0.0, 0.0
    for y in product([0, 1], repeat=5):
        weight = float(np.prod(np.where(y, p, 1 - p)))
        plain += weight * brier_decomposition(c, y, scheme="unique").reliability
        debiased += weight * brier_decomposition(c, y, scheme="unique", debiased=True).reliability
    truth = 0.6 * 0.3**2 + 0.4 * 0.3**2
    assert debiased == pytest.approx(truth)
    assert plain == pytest.approx(truth + 0.6 * 0.25 / 3 + 0.4 * 0.24 / 2)


def _order_statistics(c, y, function):
    """Mean of ``function`` of the labels, most confident first, over all orders that the confidences allow."""
    values = [
        function([y[i] for i in order])
        for order in permutations(range(len(c)))
        if all(c[i] >= c[j] for i, j in pairwise(order))
    ]
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(12))
def test_ties_are_taken_in_expectation_by_enumerating_their_orders(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    c, y = rng.integers(0, 3, n) / 2, rng.integers(0, 2, n).astype(float)

    def area(labels):
        return np.mean([1 - np.mean(labels[:m]) for m in range(1, len(labels) + 1)])

    assert aurc(c, y) == pytest.approx(_order_statistics(c, y, area))
    for coverage in (0.2, 0.5, 0.8, 1.0):
        m = int(np.ceil(round(coverage * n, 9)))
        expected = _order_statistics(c, y, lambda labels, m=m: np.mean(labels[:m]))
        assert accuracy_at_coverage(c, y, coverage) == pytest.approx(expected)
    order = rng.permutation(n)
    assert aurc(c[order], y[order]) == pytest.approx(aurc(c, y))


def test_risk_coverage_by_hand():
    """Most confident first: right; then a tie of a right and a wrong one."""
    coverage, risk = risk_coverage([0.9, 0.5, 0.5], [1, 1, 0])
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([0, 0.25, 1 / 3])
    assert np.isnan(aurc([], [])) and np.isnan(accuracy_at_coverage([], [], 0.8))
    with pytest.raises(ValueError, match="coverage"):
        accuracy_at_coverage([0.5], [1], 0.0)


def test_a_whole_number_of_items_is_not_rounded_up():
    """.55 · 100 is 55.00000000000001 in floating point: 55 items."""
    y = np.r_[np.ones(55), np.zeros(45)]
    assert accuracy_at_coverage(np.linspace(1, 0, 100), y, 0.55) == 1.0


def test_blocks_equal_the_plain_functions_on_the_repeated_items():
    for seed in range(60):
        _, c, y = random_input(seed)
        rng = np.random.default_rng(seed)
        weights = rng.integers(0, 3, (4, len(c))).astype(float)
        weights[:, 0] += 1
        blocks = RankedBlocks(c, y)
        for row in range(4):
            times = weights[row].astype(int)
            again = np.repeat(c, times), np.repeat(y, times)
            assert blocks.aurc(weights)[row] == pytest.approx(aurc(*again), abs=1e-12)
            expected = accuracy_at_coverage(*again, 0.8)
            assert blocks.accuracy_at_coverage(weights, 0.8)[row] == pytest.approx(expected, abs=1e-12)


def test_auroc_counts_pairs():
    c, y = [0.2, 0.5, 0.5, 0.9], [0, 1, 0, 1]
    assert auroc(c, y) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auroc([], []))
    with pytest.raises(ValueError, match="0 or 1"):
        auroc([0.5, 0.6], [0.5, 1])


def test_pass_at_k_is_the_mean_over_subsets():
    for n in range(1, 8):
        for right in range(n + 1):
            attempts = [1] * right + [0] * (n - right)
            for k in range(1, n + 1):
                expected = np.mean([max(subset) for subset in combinations(attempts, k)])
                assert pass_at_k(n, right, k) == pytest.approx(expected, abs=1e-12)
    assert pass_at_k([16, 16], [0, 16], 8).tolist() == [0.0, 1.0]
    assert pass_at_k(100_000, 3, 50_000) == pytest.approx(0.875, abs=1e-4)


@pytest.mark.parametrize(("n", "right", "k"), [(4, 2, 5), (4, 5, 2), (4, -1, 2), (4, 2, 0)])
def test_pass_at_k_refuses(n, right, k):
    with pytest.raises(ValueError):
        pass_at_k(n, right, k)
