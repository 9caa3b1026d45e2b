"""Measures how well confidence ranks right answers above wrong ones, and the gain from answering only the confident
ones.

Ties are taken in expectation over their orders everywhere, so that no figure depends on the order of the data: votes
tie often.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .bins import FloatArray, checked

COVERAGES = 50  # points of a curve of accuracy over coverage


def placements(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Returns (P,) share of wrong items below each right one, and (W,) share of right items above each wrong one; a tie
    counts one half (DeLong et al. 1988, structural components V10 and V01). Both have mean AUROC.

    Raises ValueError for correctness other than 0 and 1, and as :func:`carerl.calibration.bins.checked`.
    """
    c, a = checked(confidence, correct)
    if not np.all((a == 0) | (a == 1)):
        raise ValueError("AUROC is of labels that are 0 or 1")
    right, wrong = np.sort(c[a == 1]), np.sort(c[a == 0])
    if not (len(right) and len(wrong)):
        return np.full(len(right), np.nan), np.full(len(wrong), np.nan)
    x, y = c[a == 1], c[a == 0]
    below = (np.searchsorted(wrong, x, "left") + np.searchsorted(wrong, x, "right")) / (2 * len(wrong))
    above = 1 - (np.searchsorted(right, y, "left") + np.searchsorted(right, y, "right")) / (2 * len(right))
    return below, above


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Returns P(a right item has a higher confidence than a wrong one) + half of P(equal): the Mann-Whitney statistic
    with midranks (Hanley and McNeil 1982). NaN if all are right, all are wrong, or there is nothing."""
    below, above = placements(confidence, correct)
    return float(below.mean()) if len(below) and len(above) else float("nan")


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Returns coverage m/n and selective risk: the expected share of wrong answers among the m most confident, m = 1 …
    n (El-Yaniv and Wiener 2010; Geifman and El-Yaniv, arXiv 1705.08500). Empty without data.

    In expectation over the orders of a tied block, each of its items counts with the block's mean.
    """
    c, a = checked(confidence, correct)
    m = np.arange(1, len(c) + 1)
    return m / max(len(c), 1), np.cumsum(_expected_losses(c, a)) / m


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Returns the area under the risk-coverage curve: mean over m = 1 … n of the selective risk (Geifman et al.,
    arXiv 1805.08206). Lower is better; of a useless ranking it is the error rate. NaN without data."""
    _, risk = risk_coverage(confidence, correct)
    return float(risk.mean()) if risk.size else float("nan")


def accuracy_at_coverage(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Returns the expected share of right answers among the ceil(coverage · n) most confident; NaN without data.

    Raises ValueError for a coverage outside (0, 1].
    """
    c, a = checked(confidence, correct)
    m = kept_items(len(c), coverage)
    return float(1 - _expected_losses(c, a)[:m].mean()) if m else float("nan")


def kept_items(n: int, coverage: float) -> int:
    """Returns ceil(coverage · n), exact even if rounding left the product just above a whole number."""
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage = {coverage}: above 0, at most 1")
    return math.ceil(round(coverage * n, 9))


def _expected_losses(c: FloatArray, a: FloatArray) -> FloatArray:
    """Returns 1 - correctness, most confident first, each the mean over the items tied with it."""
    values, index = np.unique(-c, return_inverse=True)
    count = np.bincount(index, minlength=len(values))
    return np.repeat(np.bincount(index, 1 - a, minlength=len(values)) / count, count) if len(c) else np.empty(0)


class RankedBlocks:
    """Holds the tied blocks of confidences, for statistics of many resamples at once.

    A resample is a row of multiplicities ``weights_RN`` (whole numbers). In a block that begins after M items with S
    losses and holds w items with mean loss q, the sum of selective risks is (S - M q)(H(M + w) - H(M)) + q w, with
    harmonic numbers H: no order within the block, no loop over items.
    """

    def __init__(self, confidence: ArrayLike, correct: ArrayLike) -> None:
        c, a = checked(confidence, correct)
        self._order = np.argsort(-c, kind="stable")
        self._loss_N = (1 - a)[self._order]
        ranked = c[self._order]
        self._first_G = (
            np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(c) else np.empty(0, dtype=np.int64)
        )

    def _blocks(self, weights_RN: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns (R, G) items and losses of each block."""
        w = weights_RN[:, self._order]
        return np.add.reduceat(w, self._first_G, axis=1), np.add.reduceat(w * self._loss_N, self._first_G, axis=1)

    def aurc(self, weights_RN: FloatArray) -> FloatArray:
        """Returns (R,) areas, as :func:`aurc`."""
        items, losses = self._blocks(weights_RN)
        after = items.cumsum(axis=1)
        before = after - items
        mean = losses / np.maximum(items, 1)
        # H(n) = 1 + 1/2 + … + 1/n, looked up
        harmonic = np.r_[0.0, np.cumsum(1 / np.arange(1, int(after[:, -1].max()) + 1))]
        rise = harmonic[after.astype(np.int64)] - harmonic[before.astype(np.int64)]
        area = (losses.cumsum(axis=1) - losses - before * mean) * rise + losses
        return np.asarray(area.sum(axis=1) / np.maximum(after[:, -1], 1))

    def accuracy_at_coverage(self, weights_RN: FloatArray, coverage: float) -> FloatArray:
        """Returns (R,) accuracies, as :func:`accuracy_at_coverage`."""
        items, losses = self._blocks(weights_RN)
        after = items.cumsum(axis=1)
        kept = np.ceil(np.round(coverage * after[:, -1:], 9))
        taken = np.clip(kept - (after - items), 0, items)
        return np.asarray(1 - (losses * taken / np.maximum(items, 1)).sum(axis=1) / np.maximum(kept[:, 0], 1))


def accuracy_over_coverage(confidence: FloatArray, right: FloatArray) -> FloatArray:
    """Returns (COVERAGES,) accuracy on the ceil(c · n) most confident answers, c = 1/COVERAGES … 1; ties in expectation
    over their orders (:func:`risk_coverage`)."""
    _, risk = risk_coverage(confidence, right)
    kept = np.ceil(np.round(coverage_places() * len(risk), 9)).astype(int)
    return np.asarray(1 - risk[kept - 1])


def coverage_places() -> FloatArray:
    """Returns the coverages of a curve, 1/COVERAGES … 1."""
    return np.arange(1, COVERAGES + 1) / COVERAGES
