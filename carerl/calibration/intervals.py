"""Intervals over questions, where several samples of a question are one cluster.

Samples of a question are not independent, so questions are what is resampled, and every standard error is that of sums
over questions (Miller, arXiv 2411.00640, §2.2; Efron and Tibshirani 1993, ch. 8). Which method for what:

========================  =============================================================================
a mean (Brier, NLL)       :func:`mean_interval`: the studentised cluster bootstrap, second-order accurate
accuracy                  :func:`share_interval`: Wilson, with the clusters' effective number of samples
AUROC                     :func:`auroc_interval`: DeLong's variance over clusters, Wilson's shape
AURC, accuracy@coverage   :func:`bootstrap_interval`: the BCa cluster bootstrap
ECE                       :mod:`carerl.calibration.debiased`; no bootstrap of the plug-in covers it
========================  =============================================================================

Measured coverage stands in ``tests/calibration/test_coverage.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .bins import FloatArray
from .ranking import placements

LEVEL = 0.95
REPEATS = 1000
_CELLS = 4_000_000  # numbers of a resampling held at a time
_JACKKNIFE = 200  # blocks of questions left out in turn


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval; ``low`` and ``high`` are NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __contains__(self, truth: float) -> bool:
        return self.low <= truth <= self.high


def clusters(questions: ArrayLike | None, n: int) -> tuple[NDArray[np.int64], int]:
    """(N,) index of each item's question and the number of questions Q; None: an item each. Raises ValueError for
    another length."""
    if questions is None:
        return np.arange(n), n
    names = np.asarray(questions)
    if names.shape != (n,):
        raise ValueError(f"{names.shape} questions for {n} items")
    found, index = np.unique(names, return_inverse=True)
    return index.reshape(-1), len(found)


def cluster_error(influence: FloatArray, index: NDArray[np.int64], count: int) -> float:
    """Standard error of a mean over N items from their deviations (influence values, mean 0): the root of
    Q/(Q - 1) · sum over questions of (sum of deviations)², over N. NaN with one question."""
    if count < 2:
        return float("nan")
    sums = np.bincount(index, influence, minlength=count)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(influence))


def wilson(share: float, n: float, level: float = LEVEL) -> Estimate:
    """Wilson's score interval (1927) for a share of n; n need not be whole. Raises ValueError for a share outside
    [0, 1]; NaN bounds for n <= 0."""
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: outside [0, 1]")
    if not n > 0:
        return Estimate(share)
    z = float(special.ndtri((1 + level) / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def _effective_wilson(share: float, error: float, fewest: float, level: float, degrees: int) -> Estimate:
    """Wilson with the n at which a share has this standard error, share (1 - share)/error² (Korn and Graubard 1998),
    shrunk by (z/t)² for the error's own uncertainty. ``fewest``: n where the error is 0 or unknown."""
    if not (error > 0 and 0 < share < 1):
        return wilson(share, fewest, level)
    z, t = special.ndtri((1 + level) / 2), special.stdtrit(degrees, (1 + level) / 2)
    return wilson(share, share * (1 - share) / error**2 * float(z / t) ** 2, level)


def share_interval(values: ArrayLike, questions: ArrayLike | None = None, level: float = LEVEL) -> Estimate:
    """Interval for the mean of values in [0, 1], such as accuracy: Wilson's. With one 0/1 value a question it is exactly
    that; with clusters, or values between 0 and 1, n is the effective number of samples. Where all values are equal
    (all right, say) n is the number of questions, as if the samples of a question said no more than one. NaN without
    data; NaN bounds for one question. Raises ValueError outside [0, 1]."""
    x = np.asarray(values, dtype=np.float64)
    if not np.all((x >= 0) & (x <= 1)):
        raise ValueError("shares lie in [0, 1]")
    index, count = clusters(questions, len(x))
    if not count:
        return Estimate(float("nan"))
    share = float(np.clip(x.mean(), 0, 1))
    if count == len(x) and np.all((x == 0) | (x == 1)):
        return wilson(share, count, level)
    if count < 2:
        return Estimate(share)
    return _effective_wilson(share, cluster_error(x - share, index, count), count, level, count - 1)


def auroc_interval(
    confidence: ArrayLike, correct: ArrayLike, questions: ArrayLike | None = None, level: float = LEVEL
) -> Estimate:
    """Interval for AUROC: the variance of DeLong et al. (1988) from structural components, summed over clusters
    (Obuchowski 1997), in the shape of Wilson's interval, which stays within [0, 1]. At AUROC 0 or 1, where that variance
    is 0, n is the number of items of the rarer class. All NaN for one class. Raises ValueError as
    :func:`carerl.calibration.ranking.placements`."""
    a = np.asarray(correct, dtype=np.float64)
    below, above = placements(confidence, correct)
    index, count = clusters(questions, len(a))
    if not (len(below) and len(above)):
        return Estimate(float("nan"))
    area = float(below.mean())
    influence = np.empty(len(a))
    # Without clusters the squares add up to DeLong's variance, with n - 1 in each class's denominator.
    for label, part in ((1, below), (0, above)):
        size = len(part)
        influence[a == label] = (part - area) * len(a) / size * math.sqrt(size / max(size - 1, 1))
    fewest = min(len(below), len(above))
    error = cluster_error(influence, index, count) * math.sqrt((count - 1) / count) if count > 1 else 0.0
    if count < len(a):
        error *= math.sqrt(count / max(count - 1, 1))
        fewest = min(fewest, count)
    degrees = max(1, min(fewest, count) - 1) if count < len(a) else 10**9
    return _effective_wilson(area, error, fewest, level, degrees)


def mean_interval(
    values: ArrayLike,
    questions: ArrayLike | None = None,
    level: float = LEVEL,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Estimate:
    """Interval for a mean over items by the studentised cluster bootstrap (Hall 1988; Efron and Tibshirani 1993, §12.5).

    Questions are drawn with replacement; in each resample t* = (mean* - mean)/error* with its own cluster standard error;
    the interval is mean - q·error, q the quantiles of t*. Second-order accurate: it follows the skewness that a
    percentile interval ignores. Without spread the interval is the point; NaN bounds for fewer than two questions.
    """
    x = np.asarray(values, dtype=np.float64)
    index, count = clusters(questions, len(x))
    if not count:
        return Estimate(float("nan"))
    mean = float(x.mean())
    if count < 2:
        return Estimate(mean)
    error = cluster_error(x - mean, index, count)
    # Below this the spread is the rounding of a constant, and t* a quotient of roundings.
    if error <= 1e-12 * max(1.0, float(np.abs(x).max())):
        return Estimate(mean, mean, mean)
    size_Q = np.bincount(index, minlength=count).astype(np.float64)
    centred_Q = np.bincount(index, x - mean, minlength=count)
    table = np.stack([centred_Q, size_Q, centred_Q**2, centred_Q * size_Q, size_Q**2], axis=1)
    found = []
    for weights_RQ in resamples(count, repeats, seed):
        s, m, ss, sm, mm = (weights_RQ @ table).T
        shift = s / m
        spread = np.maximum(ss - 2 * shift * sm + shift**2 * mm, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = shift / (np.sqrt(count / (count - 1) * spread) / m)
        # A resample of equal values has no spread: its mean is infinitely many of its own errors away.
        found.append(np.where(np.isnan(t), 0.0, t))
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Estimate(mean, mean - float(high) * error, mean - float(low) * error)


def resamples(count: int, repeats: int, seed: int, items: int | None = None) -> Iterator[FloatArray]:
    """Chunks (r, Q) of the multiplicities with which Q questions are drawn, ``repeats`` rows in all; a chunk's rows
    times ``items`` (Q, if None) numbers are held at a time, and the draws do not depend on it."""
    rng = np.random.default_rng([seed, count])
    even = np.full(count, 1 / count)
    size = max(1, _CELLS // max(items or count, 1))
    for begin in range(0, repeats, size):
        yield rng.multinomial(count, even, size=min(size, repeats - begin)).astype(np.float64)


def bootstrap_interval(
    statistic: Callable[[FloatArray], FloatArray],
    value: float,
    questions: ArrayLike | None,
    n: int,
    level: float = LEVEL,
    repeats: int = REPEATS,
    seed: int = 0,
    method: str = "bca",
) -> Estimate:
    """Cluster bootstrap over questions: ``statistic`` takes multiplicities of the items, (R, n), and returns (R,).

    ``method``: ``bca``, bias-corrected and accelerated (Efron 1987), the acceleration from a jackknife that leaves out
    questions in at most 200 blocks; or ``percentile``. NaN bounds for fewer than two questions or a NaN value. Raises
    ValueError for another method.
    """
    if method not in ("bca", "percentile"):
        raise ValueError(f"method {method!r}: use bca or percentile")
    index, count = clusters(questions, n)
    if count < 2 or math.isnan(value):
        return Estimate(value)
    drawn = [statistic(weights_RQ[:, index]) for weights_RQ in resamples(count, repeats, seed, max(n, count))]
    replicates = np.concatenate(drawn)
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return Estimate(value)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _bca_tails(replicates, value, _left_out(statistic, index, count), tails)
    low, high = np.quantile(replicates, tails)
    return Estimate(value, float(low), float(high))


def _left_out(
    statistic: Callable[[FloatArray], FloatArray], index: NDArray[np.int64], count: int
) -> FloatArray:
    """The statistic without each block of questions in turn."""
    blocks = min(count, _JACKKNIFE)
    block_N = (np.arange(count) * blocks // count)[index]
    size = max(1, _CELLS // max(len(index), 1))
    parts = [np.arange(begin, min(begin + size, blocks)) for begin in range(0, blocks, size)]
    return np.concatenate([statistic((block_N[None, :] != part[:, None]).astype(np.float64)) for part in parts])


def _bca_tails(replicates: FloatArray, value: float, left_out: FloatArray, tails: FloatArray) -> FloatArray:
    """Efron's corrected tail probabilities; the plain ones where nothing varies."""
    below = (np.mean(replicates < value) + np.mean(replicates <= value)) / 2
    bias = special.ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    pull = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + z / (1 - acceleration * z)))
