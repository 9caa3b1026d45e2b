"""Calibration metrics on inputs small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest

from carerl.calibration import ece, majority, reliability_bins


def test_ece_by_hand():
    """Bins [.2,.3): .2 (0) and .25 (1): |.5 − .225| = .275, share 2/5. [.8,.9): .8 (1): .2, share 1/5.
    [.9,1]: .9 (1), 1.0 (0): |.5 − .95| = .45, share 2/5. Sum .11 + .04 + .18 = .33."""
    confidence, correct = [0.2, 0.25, 0.8, 0.9, 1.0], [0, 1, 1, 1, 0]
    assert ece(confidence, correct) == pytest.approx(0.33)
    bins = reliability_bins(confidence, correct)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.2, 0.3, 2), (0.8, 0.9, 1), (0.9, 1.0, 2)]
    assert [b.accuracy for b in bins] == [0.5, 1.0, 0.5]
    assert [b.confidence for b in bins] == pytest.approx([0.225, 0.8, 0.95])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_are_closed_on_the_left(dtype):
    """Every k/10 opens its own bin, 1 joins the last; float32's .7 and .6 lie below the real numbers and count
    all the same."""
    confidence = np.array([k / 10 for k in range(11)], dtype=dtype)
    counts = [(round(10 * b.low), b.count) for b in reliability_bins(confidence, np.ones(11))]
    assert counts == [(k, 1) for k in range(9)] + [(9, 2)]
    just_below = np.nextafter(confidence[1:10], dtype(0))
    lows = [round(10 * b.low) for b in reliability_bins(just_below, np.ones(9))]
    assert lows == list(range(9))


def test_perfect_and_worst():
    assert ece([0.5, 0.5], [1, 0]) == 0.0
    assert ece([1.0, 1.0], [0, 0]) == 1.0
    assert ece([0.7, 0.3], [0.7, 0.3]) == pytest.approx(0.0), "correctness may be a probability"


def test_equal_counts():
    """Six items in three bins of two: (.1, .2), (.3, .4), (.5, .9) with accuracies 0, .5, 1 and confidences .15,
    .35, .7: (.15 + .15 + .3)/3 = .2. By equal widths of 1/3: (.1,.2,.3) .2 → 0; (.4,.5) .45 → 1; .9 → 1."""
    confidence, correct = [0.9, 0.1, 0.4, 0.2, 0.5, 0.3], [1, 0, 1, 0, 1, 0]
    bins = reliability_bins(confidence, correct, bins=3, scheme="count")
    assert [(b.low, b.high, b.count) for b in bins] == [(0.1, 0.3, 2), (0.3, 0.5, 2), (0.5, 0.9, 2)]
    assert ece(confidence, correct, bins=3, scheme="count") == pytest.approx(0.2)
    assert ece(confidence, correct, bins=3) == pytest.approx((3 * 0.2 + 2 * 0.55 + 0.1) / 6)


def test_equal_counts_keep_ties_together_and_ignore_the_order():
    rng = np.random.default_rng(0)
    confidence = rng.integers(0, 17, 200) / 16
    correct = rng.random(200) < confidence
    reference = reliability_bins(confidence, correct, scheme="count")
    assert len(reference) > 5
    for _ in range(5):
        order = rng.permutation(200)
        shuffled = reliability_bins(confidence[order], correct[order], scheme="count")
        assert [(b.low, b.high, b.count) for b in shuffled] == [(b.low, b.high, b.count) for b in reference]
    two = reliability_bins([0.5, 0.5, 1.0, 1.0], [0, 1, 1, 1], bins=2, scheme="count")
    assert [(b.confidence, b.accuracy, b.count) for b in two] == [(0.5, 0.5, 2), (1.0, 1.0, 2)]


def test_unique_confidences_have_a_bin_each():
    """Two votes' shares within one tenth: .25 (0 right of 1) and .2 (1 of 1). Equal widths merge them and
    see |.5 − .225|; one bin each sees .25 and .8."""
    assert ece([0.2, 0.25], [1, 0], scheme="unique") == pytest.approx((0.8 + 0.25) / 2)
    assert ece([0.2, 0.25], [1, 0]) == pytest.approx(0.275)
    bins = reliability_bins([0.25, 0.25, 0.2], [1, 0, 1], scheme="unique")
    assert [(b.low, b.high, b.count) for b in bins] == [(0.2, 0.2, 1), (0.25, 0.25, 2)]


def test_nothing_to_measure_is_nan():
    assert np.isnan(ece([], [])) and reliability_bins([], []) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"confidence": [1.1], "correct": [1]},
        {"confidence": [-0.1], "correct": [1]},
        {"confidence": [np.nan], "correct": [1]},
        {"confidence": [0.5], "correct": [2]},
        {"confidence": [0.5, 0.6], "correct": [1]},
        {"confidence": [0.5], "correct": [1], "scheme": "quantile"},
        {"confidence": [0.5], "correct": [1], "bins": 0},
    ],
)
def test_bad_input_is_refused(arguments):
    with pytest.raises(ValueError):
        ece(**arguments)


def test_a_confidence_that_rounding_left_above_one_is_one():
    assert ece([np.float32(1) + np.finfo(np.float32).eps], [1]) == 0.0


def test_majority():
    assert majority(["7", "3", "7", None], "q1", 0) == ("7", 0.5)
    assert majority([None, None, None, "3"], "q1", 0) == ("3", 0.25), "None counts in N and never wins"
    assert majority([None, None], "q1", 0) == (None, 0.0)
    assert majority([], "q1", 0) == (None, 0.0)


def test_ties_are_broken_by_seed_and_not_by_order():
    answers = ["1", "2", "3", "1", "2", "3"]
    for key in ("a", "b"):
        assert majority(answers, key, 4) == majority(answers[::-1], key, 4)
    winners = [majority(answers, f"q{k}", 0)[0] for k in range(300)]
    assert all(70 < winners.count(answer) < 130 for answer in "123"), "no answer is preferred"
    assert len({majority(answers, "q", seed)[0] for seed in range(20)}) == 3
