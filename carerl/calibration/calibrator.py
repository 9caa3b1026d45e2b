"""Post-hoc calibration: a map of confidences that is fitted on some questions, and applied to others only.

A confidence of exactly 0 means no answer at all, under every estimator (:mod:`.confidence`). It stays 0 and is not
fitted on [ours]: a map that raises low confidences would otherwise give a missing answer some.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bins import FloatArray, checked


@dataclass(frozen=True)
class Calibrator(ABC):
    """Maps confidences to calibrated ones. ``questions``: those that it was fitted on, and is never applied to."""

    questions: frozenset[str]

    def apply(self, confidence: ArrayLike, questions: Iterable[str]) -> FloatArray:
        """Returns (N,) calibrated confidences of items of ``questions``. Raises ValueError if one of these was fitted
        on, and for confidences outside [0, 1]."""
        shared = sorted(self.questions.intersection(questions))
        if shared:
            raise ValueError(
                f"{len(shared)} of the questions were fitted on ({', '.join(shared[:3])} …); "
                "fit on a validation split of other questions"
            )
        c, _ = checked(confidence, np.zeros(np.shape(confidence)))
        return np.where(c == 0, 0.0, self._map(c))

    @abstractmethod
    def _map(self, confidence: FloatArray) -> FloatArray:
        """Returns (N,) calibrated confidences of the given ones, which lie in [0, 1]."""


def fitting_items(
    confidence: ArrayLike, correct: ArrayLike, questions: Iterable[str]
) -> tuple[FloatArray, FloatArray, frozenset[str]]:
    """Returns confidence and correctness of the items with an answer, and the names of all questions. Raises ValueError
    without data or answers, and for numbers outside [0, 1]."""
    c, a = checked(confidence, correct)
    names = frozenset(questions)
    if not len(c) or not names:
        raise ValueError("no data to fit on")
    c, a = c[c > 0], a[c > 0]
    if not len(c):
        raise ValueError("no answers to fit on, every confidence is 0")
    return c, a, names
