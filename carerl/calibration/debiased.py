"""ECE without its bias, and an interval for it.

The plug-in ECE sums |gap| over bins, and noise in a gap adds to its absolute value: a calibrated model scores above 0,
more with fewer data and more bins. A percentile bootstrap adds the noise once more: at n = 500 with a calibrated model
its interval holds the true 0 in none of the simulations (``tests/calibration/test_coverage.py``).

What is estimated is the binned ECE of the population for the given bins, sum_k |delta_k| with
delta_k = E[(correct - confidence) · 1{bin k}] (which is at most the ECE without bins: Kumar et al., arXiv 1909.10155,
prop. 3.3). The observed deltas are means over questions, so they are jointly normal for large n, with a covariance that
is a sum over questions. Both estimates start from there.

Point: E|N(delta, s²)| exceeds |delta| by a known amount; the plug-in's excess is subtracted bin by bin at the observed
delta (the debiased L1 estimate of Kumar et al. 2019 and Roelofs et al., arXiv 2012.08668, who take the
binomial variance for s² where here the clusters' is taken). What is left at a calibrated model is 59 % of the plug-in's
bias.

Interval [ours]: inversion of a test. Along a ray t · d, t >= 0, the plug-in statistic sum |t · d_k + noise_k| grows
stochastically with t (Anderson 1955: symmetric noise, convex symmetric statistic), so the values of t at which the
observed statistic lies in the central part of its distribution form an interval, whose ends are ECEs. The lower end
takes the ray of the observed gaps, shrunk by their noise. The upper end takes the ray on which noise adds least for a
given ECE, gaps in proportion to their standard errors (the excess of E|N(delta, s²)| over |delta| is s times a convex
function of |delta|/s), since an ECE spread that way is the largest that still looks like what was observed. The
interval holds 0 as soon as the observed ECE is what a calibrated model shows; it errs on the wide side, most of all
near 0. The point lies outside it when the model is all but calibrated; then the nearer end is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .bins import FloatArray, assign_bins, checked
from .intervals import LEVEL, Estimate, clusters

DRAWS = 2000


def gap_moments(
    confidence: ArrayLike,
    correct: ArrayLike,
    questions: ArrayLike | None = None,
    bins: int = 10,
    scheme: str = "width",
) -> tuple[FloatArray, FloatArray]:
    """Returns the observed deltas (K,) of the occupied bins, share · (accuracy - confidence), and their covariance (K,
    K) over questions; NaN covariance for fewer than two questions. Raises ValueError as
    :func:`carerl.calibration.bins.reliability_bins`."""
    c, a = checked(confidence, correct)
    index, count = clusters(questions, len(c))
    if not len(c):
        return np.empty(0), np.empty((0, 0))
    found, _, _ = assign_bins(c, bins, scheme, dtype=np.asarray(confidence).dtype)
    _, bin_N = np.unique(found, return_inverse=True)
    width = int(bin_N.max()) + 1
    n = len(c)
    delta = np.bincount(bin_N, a - c, minlength=width) / n
    if count < 2:
        return delta, np.full((width, width), np.nan)
    # The sum over a question's items, less its expected share: a question with more items weighs more.
    size_Q = np.bincount(index, minlength=count)
    cells = np.bincount(index * width + bin_N, a - c, minlength=count * width).reshape(count, width)
    deviation_QK = (cells - size_Q[:, None] * delta) / n
    return delta, count / (count - 1) * deviation_QK.T @ deviation_QK


def _folded_mean(mean: FloatArray, error: FloatArray) -> FloatArray:
    """Returns E|N(mean, error²)|; |mean| if the error is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(error > 0, mean / error, 0.0)
    noise = error * np.sqrt(2 / np.pi) * np.exp(-z * z / 2) + mean * special.erf(z / np.sqrt(2))
    return np.asarray(np.where(error > 0, noise, np.abs(mean)))


@dataclass(frozen=True, slots=True)
class Inversion:
    """Holds the parts of the estimate at every level: the plain and the debiased ECE, the two rays (K,) and the
    simulated noise (R, K). No rays without an interval; rays of 0 if nothing varies."""

    observed: float
    value: float
    ray_low: FloatArray | None
    ray_high: FloatArray
    noise: FloatArray

    def interval(self, level: float) -> Estimate:
        if self.ray_low is None:
            return Estimate(self.value)
        if not self.ray_high.any():
            return Estimate(self.value, self.value, self.value)
        tail = (1 - level) / 2
        low = _reaches(self.ray_low, self.noise, self.observed, 1 - tail)
        high = _reaches(self.ray_high, self.noise, self.observed, tail)
        return Estimate(min(max(self.value, low), high), low, high)


def inversion(
    confidence: ArrayLike,
    correct: ArrayLike,
    questions: ArrayLike | None = None,
    bins: int = 10,
    scheme: str = "width",
    seed: int = 0,
    draws: int = DRAWS,
) -> Inversion:
    """Prepares :func:`debiased_ece` for any level. Levels nearer to 1 than 1 - 2/draws have the interval of that
    level."""
    delta, covariance = gap_moments(confidence, correct, questions, bins, scheme)
    nothing = np.empty(0)
    if not delta.size:
        return Inversion(float("nan"), float("nan"), None, nothing, nothing)
    observed = float(np.abs(delta).sum())
    if np.isnan(covariance).any():
        return Inversion(observed, observed, None, nothing, nothing)
    error = np.sqrt(np.diag(covariance))
    value = max(0.0, observed - float((_folded_mean(delta, error) - np.abs(delta)).sum()))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    noise = np.random.default_rng(seed).standard_normal((draws, len(delta))) @ root.T
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(delta != 0, np.maximum(0.0, 1 - error**2 / delta**2), 0.0)
    spread = np.where(delta < 0, -error, error)
    return Inversion(observed, value, delta * kept if kept.any() else spread, spread, noise)


def debiased_ece(
    confidence: ArrayLike,
    correct: ArrayLike,
    questions: ArrayLike | None = None,
    bins: int = 10,
    scheme: str = "width",
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """Estimates ECE without its bias, with an interval (module docstring). All NaN without data, NaN bounds for fewer
    than two questions."""
    return inversion(confidence, correct, questions, bins, scheme, seed).interval(level)


def _reaches(ray: FloatArray, noise: FloatArray, observed: float, tail: float) -> float:
    """Finds the ECE on the ray at which the ``tail`` quantile of the plug-in statistic reaches the observed ECE; 0 if
    it is above it from the start. By bisection, with the same noise throughout."""
    direction = ray / np.abs(ray).sum()
    low, high = 0.0, min(1.0, observed + float(np.abs(noise).sum(axis=1).max()))
    for _ in range(20):  # to 1e-6
        middle = (low + high) / 2
        statistic = np.abs(middle * direction + noise).sum(axis=1)
        if float(np.partition(statistic, int(tail * len(statistic)))[int(tail * len(statistic))]) < observed:
            low = middle
        else:
            high = middle
    return low
