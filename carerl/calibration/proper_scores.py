"""Proper scoring rules of a confidence c in [0, 1] for the event "right" y in {0, 1}.

Brier (1950): (c - y)². Logarithmic (Good 1952): -y log c - (1 - y) log(1 - c), nats. Where ``correct`` is a known
probability instead of 0 or 1, each is the expected score over the label: p·score(1) + (1 - p)·score(0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bins import FloatArray, checked, reliability_bins

CLIP = 1e-3


@dataclass(frozen=True, slots=True)
class BrierDecomposition:
    """Holds Murphy's parts (1973): Brier of the binned forecast = ``reliability`` - ``resolution`` + ``uncertainty``.

    ``within``: the part that binning leaves out, so that Brier = reliability - resolution + uncertainty + within
    exactly (Stephenson et al. 2008: within-bin variance of the confidences minus twice their covariance with
    correctness). It is 0 with one bin per distinct confidence.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_scores(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Returns (N,) scores. Raises ValueError outside [0, 1] and for unequal lengths."""
    c, a = checked(confidence, correct)
    return c * c - 2 * c * a + a


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Returns the mean Brier score; NaN without data."""
    scores = brier_scores(confidence, correct)
    return float(scores.mean()) if scores.size else float("nan")


def nll_scores(confidence: ArrayLike, correct: ArrayLike, clip: float = CLIP) -> FloatArray:
    """Returns (N,) negative log-likelihoods, nats.

    [ours] Confidences are clipped to [clip, 1 - clip] first: one wrong answer at confidence 1 would make the mean
    infinite, and votes are often unanimous. The largest possible score is -log(clip), 6.9 at .001. Raises ValueError
    for a clip outside (0, .5), and as :func:`brier_scores`.
    """
    if not 0 < clip < 0.5:
        raise ValueError(f"clip = {clip}: between 0 and .5")
    c, a = checked(confidence, correct)
    c = np.clip(c, clip, 1 - clip)
    return np.asarray(-a * np.log(c) - (1 - a) * np.log1p(-c))


def nll(confidence: ArrayLike, correct: ArrayLike, clip: float = CLIP) -> float:
    """Returns the mean negative log-likelihood, nats, with clipped confidences; NaN without data."""
    scores = nll_scores(confidence, correct, clip)
    return float(scores.mean()) if scores.size else float("nan")


def brier_decomposition(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, scheme: str = "width", debiased: bool = False
) -> BrierDecomposition:
    """Splits the Brier score. With n_k items, accuracy a_k and mean confidence c_k in bin k, and a over all n:

    reliability = sum n_k/n (c_k - a_k)², resolution = sum n_k/n (a_k - a)², uncertainty = a (1 - a).

    ``debiased``: Ferro and Fricker (2012; Bröcker 2012): with s_k = a_k (1 - a_k)/(n_k - 1) and
    s = a (1 - a)/(n - 1), reliability loses sum n_k/n s_k, resolution loses the same but gains s, uncertainty gains s;
    the three still add up to the same. Bins of one item take no correction, so that a bias is left there. Parts may
    turn negative. Labels must be 0 or 1 for it. All NaN without data. Raises ValueError as :func:`reliability_bins`.
    """
    _, a = checked(confidence, correct)
    found = reliability_bins(confidence, correct, bins, scheme)
    if not found:
        return BrierDecomposition(*[float("nan")] * 4)
    share = np.array([b.count for b in found]) / len(a)
    accuracy = np.array([b.accuracy for b in found])
    gap = np.array([b.confidence for b in found]) - accuracy
    mean = float(a.mean())
    reliability = float((share * gap**2).sum())
    resolution = float((share * (accuracy - mean) ** 2).sum())
    uncertainty = mean * (1 - mean)
    within = brier(confidence, correct) - (reliability - resolution + uncertainty)
    if debiased:
        if not np.all((a == 0) | (a == 1)):
            raise ValueError("the debiased decomposition is of labels that are 0 or 1")
        count = np.array([b.count for b in found])
        noise = float((share * accuracy * (1 - accuracy) / np.maximum(count - 1, 1)).sum())
        overall = uncertainty / max(len(a) - 1, 1)
        reliability, resolution, uncertainty = reliability - noise, resolution - noise + overall, uncertainty + overall
    return BrierDecomposition(reliability, resolution, uncertainty, within)
