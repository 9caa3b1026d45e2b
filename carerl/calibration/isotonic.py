"""Isotonic regression of confidences (Zadrozny and Elkan, KDD 2002, "Transforming classifier scores into accurate
multiclass probability estimates").

The map is the nondecreasing function of the confidence with the least Brier score on a validation split, found by
pooling adjacent violators (``scipy.optimize.isotonic_regression``). Items of equal confidence count as one, with their
mean correctness and their number as weight: one confidence has one value. The same function has the least negative
log-likelihood of all nondecreasing ones. Between fitted confidences it is interpolated linearly, and beyond them it
keeps the value of the nearest, as scikit-learn's ``IsotonicRegression(out_of_bounds="clip")`` does.

What it changes: confidences of one level become equal, and none change places. Answers, and with them accuracy, stay.
AUROC, AURC and accuracy at a coverage can rise or fall, as ties appear. (Temperature scaling keeps every order.) A
level can be 0 or 1, where the log-likelihood of the opposite is infinite: clip it.

It has as many parameters as it finds levels, so that a few validation questions overfit: on the split that it was
fitted on every level is calibrated exactly, whatever the model is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bins import FloatArray
from .calibrator import Calibrator, fitting_items
from .proper_scores import brier


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """Holds a fitted map. ``confidences`` are those that it was fitted at, from low to high, and ``values`` what they
    become. ``brier_before`` and ``brier_after`` are on the answers it was fitted on."""

    confidences: tuple[float, ...]
    values: tuple[float, ...]
    brier_before: float
    brier_after: float

    @property
    def levels(self) -> int:
        """The number of different values."""
        return len(set(self.values))

    def _map(self, confidence: FloatArray) -> FloatArray:
        return np.interp(confidence, self.confidences, self.values)


def fit_isotonic(confidence: ArrayLike, correct: ArrayLike, questions: Iterable[str]) -> Isotonic:
    """Fits the map to the confidences above 0; correctness may be a probability. Raises ValueError as
    :func:`~carerl.calibration.calibrator.fitting_items`."""
    from scipy.optimize import isotonic_regression  # a second to import, and few callers fit

    c, a, names = fitting_items(confidence, correct, questions)
    places, item, counts = np.unique(c, return_inverse=True, return_counts=True)
    means = np.bincount(item, a) / counts
    values = np.clip(isotonic_regression(means, weights=counts).x, 0.0, 1.0)  # rounding can pass an end by a hair
    found = tuple(places.tolist()), tuple(values.tolist())
    return Isotonic(names, *found, brier(c, a), brier(values[item], a))
