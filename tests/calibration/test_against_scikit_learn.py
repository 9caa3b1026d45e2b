"""1,000 random inputs each against scikit-learn. ECE, MCE and ACE against netcal and torchmetrics: ``tests/peers``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from carerl.calibration import auroc, brier, ece, fit_temperature, nll, reliability_bins
from tests.calibration.random_inputs import random_input

INPUTS = [random_input(seed) for seed in range(1000)]


def test_the_inputs_have_what_they_should():
    one_class = sum(len(set(y)) == 1 for _, _, y in INPUTS)
    tied = sum(len(set(c)) < len(c) for _, c, _ in INPUTS)
    extreme = sum(bool(np.any((c == 0) | (c == 1))) for _, c, _ in INPUTS)
    tiny = sum(len(c) < 4 for _, c, _ in INPUTS)
    assert min(one_class, tied, extreme, tiny) > 100


def test_brier():
    for _, c, y in INPUTS:
        assert brier(c, y) == pytest.approx(brier_score_loss(y, c, labels=[0, 1], pos_label=1), abs=1e-12)


@pytest.mark.parametrize("clip", [1e-3, 1 / 32, 1e-9])
def test_nll_with_the_clipping_declared(clip):
    for _, c, y in INPUTS:
        assert nll(c, y, clip) == pytest.approx(log_loss(y, np.clip(c, clip, 1 - clip), labels=[0, 1]), rel=1e-9)


def test_auroc_where_both_classes_occur_and_nan_where_not():
    both = 0
    for _, c, y in INPUTS:
        if len(set(y)) == 2:
            both += 1
            assert auroc(c, y) == pytest.approx(roc_auc_score(y, c), abs=1e-12)
        else:
            assert np.isnan(auroc(c, y))
    assert both > 500


@pytest.mark.parametrize("scheme", ["width", "count"])
def test_reliability_bins(scheme):
    """scikit-learn bins by ``linspace`` (edge 3/10 is .30000000000000004, so .3 lies below it) and closes bins on the
    right; ours closes them on the left. So inputs on an edge are left out: ``edges`` (tenths), 1/2 among ``votes``, and
    for equal counts every tied input, whose quantiles are data."""
    compared = 0
    for kind, c, y in INPUTS:
        if kind == "edges" or (scheme == "count" and len(set(c)) < len(c)) or np.any(np.isclose(c * 10 % 1, 0)):
            continue
        if scheme == "count" and len(c) % 10:
            continue  # where ten bins do not divide n, quantiles interpolate and ours give the first bins one less
        strategy = {"width": "uniform", "count": "quantile"}[scheme]
        accuracy, confidence = calibration_curve(y, c, n_bins=10, strategy=strategy, pos_label=1)
        ours = reliability_bins(c, y, 10, scheme)
        assert [b.accuracy for b in ours] == pytest.approx(accuracy, abs=1e-12)
        assert [b.confidence for b in ours] == pytest.approx(confidence, abs=1e-12)
        shares = np.array([b.count for b in ours]) / len(c)
        assert ece(c, y, 10, scheme) == pytest.approx(float((shares * abs(accuracy - confidence)).sum()), abs=1e-12)
        compared += 1
    assert compared > (300 if scheme == "width" else 50)


def test_temperature_is_logistic_regression_without_intercept():
    """1/T is the slope of a logistic regression on the clipped logits."""
    compared = 0
    for _, c, y in INPUTS:
        c, y = c[c > 0], y[c > 0]  # 0 is no answer
        if not len(c):
            continue
        found = fit_temperature(c, y, ["q"])
        logits = special.logit(np.clip(c, 1e-3, 1 - 1e-3))[:, None]
        if len(set(y)) < 2 or not 1 / 15 < found.value < 15:
            continue
        slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(logits, y).coef_[0, 0]
        assert 1 / found.value == pytest.approx(slope, rel=1e-3)
        compared += 1
        if compared == 150:
            return
    raise AssertionError(f"{compared} compared")
