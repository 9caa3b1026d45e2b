"""Step measures against scikit-learn and numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from carerl.calibration.steps import MEASURES, step_measures


def test_ranking_and_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    confidence, peak = generator.random(300), generator.random(300)
    tokens = generator.integers(1, 9, 300)
    logprob = -generator.random(300) * tokens
    right = (generator.random(300) < 0.3 + 0.5 * confidence).astype(float)
    found = step_measures(confidence, peak, logprob, tokens, right, 50)
    assert tuple(found) == MEASURES
    assert found["auroc_entropy"] == pytest.approx(roc_auc_score(right, confidence))
    assert found["auroc_peak"] == pytest.approx(roc_auc_score(right, peak))
    assert found["auroc_perplexity"] == pytest.approx(roc_auc_score(right, logprob / tokens))
    assert found["auroc_perplexity"] != pytest.approx(roc_auc_score(right, logprob), abs=1e-3)
    assert found["brier"] == pytest.approx(brier_score_loss(right, confidence))
    assert found["right"] == right.mean() and found["steps"] == 300


def test_the_gap_is_the_entropy_of_wrong_steps_less_that_of_right_ones_in_nats() -> None:
    vocab = 8
    entropies, right = np.array([1.0, 0.5, 0.2, 0.4]), [0, 0, 1, 1]
    confidence = 1 - entropies / math.log(vocab)
    found = step_measures(confidence, [0.5] * 4, [-1.0] * 4, [2] * 4, right, vocab)
    assert found["entropy_gap"] == pytest.approx(0.75 - 0.3)
    assert found["auroc_entropy"] == 1.0 and found["auroc_peak"] == found["auroc_perplexity"] == 0.5


def test_shares_of_right_completions_are_scored_as_they_are_and_ranked_from_one_half_on() -> None:
    found = step_measures([0.9, 0.2], [0.9, 0.2], [-1.0, -1.0], [1, 1], [0.75, 0.25], 4)
    assert found["auroc_entropy"] == 1.0 and found["right"] == 0.5
    assert found["brier"] == pytest.approx(((0.9**2 - 2 * 0.9 * 0.75 + 0.75) + (0.04 - 2 * 0.2 * 0.25 + 0.25)) / 2)
    assert found["ece"] == pytest.approx((0.15 + 0.05) / 2)


@pytest.mark.parametrize(("right", "count"), [([], 0), ([1, 1], 2), ([0], 1)])
def test_one_class_alone_has_no_ranking(right, count: int) -> None:
    values = [0.5] * count
    found = step_measures(values, values, [-1.0] * count, [1] * count, right, 4)
    assert all(math.isnan(found[name]) for name in MEASURES[:4]) and found["steps"] == count
    assert math.isnan(found["brier"]) == (count == 0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (([0.5], [0.5], [-1.0], [1], [1, 0]), "shapes differ"),
        (([0.5], [0.5], [-1.0], [0], [1]), "has a token"),
        (([0.5], [0.5], [float("nan")], [1], [1]), "finite"),
        (([1.5], [0.5], [-1.0], [1], [1]), "lie in"),
    ],
)
def test_what_is_no_step_is_refused(arguments, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        step_measures(*arguments, 4)
