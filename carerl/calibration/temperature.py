"""Temperature scaling (Guo et al., arXiv 1706.04599, §4.2) of confidences, the cheap baseline beside every method.

One number T for a model: c -> sigmoid(logit(c)/T), fitted by negative log-likelihood on a validation split. Only the
confidence is at hand, not the logits of all answers, so it is Guo et al.'s scaling for two classes, right and wrong:
confidences below 1/2 fall as those above rise, and order is kept (AUROC and AURC do not change). In s = 1/T the loss is
convex, so the minimum is where its derivative crosses 0, found by bisection within bounds.

[ours] Confidences are clipped to [clip, 1 - clip] before the logit, at the fit and at the use alike: a share of votes
is often 1, whose logit is infinite. With half a vote as clip (:func:`carerl.calibration.measure.vote_clip`) a unanimous
vote is taken for 1 - 1/(2N): N equal votes do not tell a probability of 1 from one a little below it. Probabilities
beyond the clip become equal, the one exception to the order. T is bounded by [1/20, 20]; a split that is all right or
all wrong runs into a bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .bins import FloatArray, checked
from .calibrator import Calibrator, fitting_items
from .proper_scores import CLIP, nll

BOUND = 20.0


@dataclass(frozen=True)
class Temperature(Calibrator):
    """Holds a fitted temperature. ``value`` is T: above 1 the model was overconfident. ``nll_before`` and ``nll_after``
    are on the answers it was fitted on."""

    value: float
    clip: float
    nll_before: float
    nll_after: float

    @property
    def bounded(self) -> bool:
        """True if T ran into a bound: the split does not determine it."""
        return not 1.001 / BOUND < self.value < BOUND / 1.001

    def _map(self, confidence: FloatArray) -> FloatArray:
        return scale_confidence(confidence, self.value, self.clip)


def scale_confidence(confidence: ArrayLike, temperature: float, clip: float = CLIP) -> FloatArray:
    """Returns sigmoid(logit(clip(c))/T), and 0 for 0. Raises ValueError for T <= 0, a clip outside (0, .5) or c outside
    [0, 1]."""
    if not (temperature > 0 and 0 < clip < 0.5):
        raise ValueError(f"temperature = {temperature}, clip = {clip}: T above 0, clip between 0 and .5")
    scaled = special.expit(_logits(confidence, clip) / temperature)
    return np.where(np.asarray(confidence) == 0, 0.0, scaled)


def fit_temperature(
    confidence: ArrayLike, correct: ArrayLike, questions: Iterable[str], clip: float = CLIP
) -> Temperature:
    """Finds the T with the least mean NLL over the confidences above 0; correctness may be a probability. T = 1 if
    every confidence is 1/2, which no temperature moves. Raises ValueError as
    :func:`~carerl.calibration.calibrator.fitting_items`, and as :func:`scale_confidence`."""
    c, a, names = fitting_items(confidence, correct, questions)
    logits = _logits(c, clip)

    def slope(s: float) -> float:
        """Returns the derivative of the mean NLL in s = 1/T: mean of (sigmoid(s · logit) - correct) · logit; it grows
        with s."""
        return float(((special.expit(s * logits) - a) * logits).mean())

    low, high = 1 / BOUND, BOUND
    if not logits.any():
        s = 1.0
    elif slope(low) >= 0:
        s = low
    elif slope(high) <= 0:
        s = high
    else:
        from scipy.optimize import brentq  # a second to import, and few callers fit

        s = float(brentq(slope, low, high, xtol=1e-12))
    after = nll(scale_confidence(c, 1 / s, clip), a, clip=1e-15)
    return Temperature(names, 1 / s, clip, nll(c, a, clip), after)


def _logits(confidence: ArrayLike, clip: float) -> FloatArray:
    c, _ = checked(confidence, np.zeros(np.shape(confidence)))
    return np.asarray(special.logit(np.clip(c, clip, 1 - clip)))
