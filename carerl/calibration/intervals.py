"""Intervals over questions, where several samples of a question are one cluster.

Samples of a question are not independent, so questions are what is resampled, and every standard error is that of sums
over questions (Miller, arXiv 2411.00640; Efron and Tibshirani 1993, ch. 8). Which method for what:

========================  =============================================================================
a mean (Brier, NLL)       :func:`mean_interval`: the studentised cluster bootstrap, second-order accurate
accuracy                  :func:`share_interval`: Wilson, with the clusters' effective number of samples
AUROC                     :func:`auroc_interval`: DeLong's variance over clusters, on the logit scale
AURC, accuracy@coverage   :func:`bootstrap_interval`: the BCa cluster bootstrap
ECE                       :mod:`carerl.calibration.debiased`; no bootstrap of the plug-in covers it
========================  =============================================================================

Measured coverage stands in ``tests/calibration/test_coverage.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
    """Holds a value and its interval; ``low`` and ``high`` are NaN without one.

    ``p``, of a difference only: the least alpha whose interval at level 1 - alpha excludes 0, a two-sided p-value that
    agrees with the interval at every level."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    p: float | None = None

    def __contains__(self, truth: float) -> bool:
        return self.low <= truth <= self.high


def clusters(questions: ArrayLike | None, n: int) -> tuple[NDArray[np.int64], int]:
    """Returns (N,) the index of each item's question, and the number of questions Q; None: a question for each item.
    Raises ValueError for another length."""
    if questions is None:
        return np.arange(n), n
    names = np.asarray(questions)
    if names.shape != (n,):
        raise ValueError(f"{names.shape} questions for {n} items")
    found, index = np.unique(names, return_inverse=True)
    return index.reshape(-1), len(found)


def cluster_error(influence: FloatArray, index: NDArray[np.int64], count: int) -> float:
    """Returns the standard error of a mean over N items from their deviations (influence values, mean 0): the root of
    Q/(Q - 1) · sum over questions of (sum of deviations)², over N. NaN with one question."""
    if count < 2:
        return float("nan")
    sums = np.bincount(index, influence, minlength=count)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(influence))


def wilson(share: float, n: float, level: float = LEVEL) -> Estimate:
    """Computes Wilson's score interval (1927) for a share of n; n need not be whole. Raises ValueError for a share
    outside [0, 1]; NaN bounds for n <= 0."""
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: outside [0, 1]")
    if not n > 0:
        return Estimate(share)
    z = float(special.ndtri((1 + level) / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def share_interval(values: ArrayLike, questions: ArrayLike | None = None, level: float = LEVEL) -> Estimate:
    """Computes an interval for the mean of values in [0, 1], such as accuracy: Wilson's. With one 0/1 value a question
    it is exactly that; with clusters, or values between 0 and 1, n is the effective number of samples. Where all values
    are equal (all right, say) n is the number of questions, as if the samples of a question said no more than one. NaN
    without data; NaN bounds for one question. Raises ValueError outside [0, 1]."""
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
    error = cluster_error(x - share, index, count)
    if not (error > 0 and 0 < share < 1):
        return wilson(share, count, level)
    # The n at which a share has this standard error (Korn and Graubard 1998), less what the error itself is unsure of.
    z, t = special.ndtri((1 + level) / 2), special.stdtrit(count - 1, (1 + level) / 2)
    return wilson(share, share * (1 - share) / error**2 * float(z / t) ** 2, level)


@dataclass(frozen=True, slots=True)
class AurocMoments:
    """Holds the area and its variance. ``influence_Q``: each question's share in the deviation of the area, so that
    their squares add up to its variance; ``degrees``: of freedom of that variance; ``fewest``: questions with an item
    of the rarer class."""

    area: float
    influence_Q: FloatArray
    degrees: float
    fewest: int


def auroc_moments(confidence: ArrayLike, correct: ArrayLike, index: NDArray[np.int64], count: int) -> AurocMoments:
    """Returns structural components (DeLong et al. 1988) summed over clusters (Obuchowski 1997), and the degrees of
    freedom of Brunner and Munzel (2000), few where one class is rare. Area NaN if a class has no item, degrees NaN if
    it has one. Raises ValueError as :func:`carerl.calibration.ranking.placements`."""
    a = np.asarray(correct, dtype=np.float64)
    parts = placements(confidence, correct)
    sizes = [len(np.unique(index[a == label])) for label in (1, 0)]
    influence_Q = np.zeros(count)
    area = float(parts[0].mean()) if min(sizes) else float("nan")
    if min(sizes) < 2:
        return AurocMoments(area, influence_Q, float("nan"), min(sizes))
    variances = []
    for label, part, size in zip((1, 0), parts, sizes, strict=True):
        deviation = (part - area) / len(part) * math.sqrt(size / (size - 1))
        class_Q = np.bincount(index[a == label], deviation, minlength=count)
        variances.append(float((class_Q**2).sum()))
        influence_Q += class_Q  # classes of one question covary; without clusters the two variances just add up
    scale = sum(v * v / (size - 1) for v, size in zip(variances, sizes, strict=True))
    return AurocMoments(area, influence_Q, sum(variances) ** 2 / scale if scale else float("nan"), min(sizes))


def auroc_interval(
    confidence: ArrayLike, correct: ArrayLike, questions: ArrayLike | None = None, level: float = LEVEL
) -> Estimate:
    """Computes an interval for AUROC: Student's t on the logit scale with :func:`auroc_moments`. At AUROC 0 or 1, where
    that variance is 0: Wilson's for a share of as many as there are questions with the rarer class. All NaN for one
    class; NaN bounds if only one question has a class."""
    index, count = clusters(questions, len(np.asarray(correct)))
    found = auroc_moments(confidence, correct, index, count)
    variance = float((found.influence_Q**2).sum())
    if math.isnan(found.area) or found.fewest < 2:
        return Estimate(found.area)
    if not (variance > 0 and 0 < found.area < 1):
        return wilson(found.area, found.fewest, level)
    quantile = float(special.stdtrit(found.degrees, (1 + level) / 2))
    half = quantile * math.sqrt(variance) / (found.area * (1 - found.area))
    low, high = special.expit(special.logit(found.area) + np.array([-half, half]))
    return Estimate(found.area, float(low), float(high))


@dataclass(frozen=True, slots=True)
class QuestionSums:
    """Holds the sum and the number of values for each of Q questions, (Q,) both."""

    total_Q: FloatArray
    size_Q: FloatArray

    @property
    def mean(self) -> float:
        return float(self.total_Q.sum() / self.size_Q.sum())


def sums_over_questions(values: ArrayLike, index: NDArray[np.int64], count: int) -> QuestionSums:
    """Sums values over questions. ``index`` and ``count``: from :func:`clusters`."""
    total_Q: FloatArray = np.bincount(index, np.asarray(values, dtype=np.float64), minlength=count).astype(np.float64)
    return QuestionSums(total_Q, np.bincount(index, minlength=count).astype(np.float64))


def mean_interval(
    values: ArrayLike,
    questions: ArrayLike | None = None,
    level: float = LEVEL,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Estimate:
    """Computes an interval for a mean over items by the studentised cluster bootstrap, :func:`studentised_interval`.
    NaN without data."""
    x = np.asarray(values, dtype=np.float64)
    index, count = clusters(questions, len(x))
    if not count:
        return Estimate(float("nan"))
    return studentised_interval([sums_over_questions(x, index, count)], level, repeats, seed)


def studentised_interval(
    runs: Sequence[QuestionSums], level: float = LEVEL, repeats: int = REPEATS, seed: int = 0
) -> Estimate:
    """Computes an interval for the mean of one run, or for the first's minus the second's on the same questions (Hall
    1988; Efron and Tibshirani 1993, §12.5).

    Questions are drawn with replacement, for both runs together; in each resample t* = (value* - value)/error* with its
    own standard error over questions (of a ratio: the total less mean · size); the interval is value - q · error, q the
    quantiles of t*. Second-order accurate: it follows the skewness that a percentile interval ignores. Without spread
    the interval is the point; NaN bounds for fewer than two questions. A difference has a ``p``, of 2/(repeats + 1) at
    least.
    """
    count = len(runs[0].total_Q)
    means = [run.mean for run in runs]
    value = means[0] - means[1] if len(runs) == 2 else means[0]
    if count < 2:
        return Estimate(value)
    # Centred totals: the sums of squares below lose no digits to the mean.
    columns = [x for run, m in zip(runs, means, strict=True) for x in (run.total_Q - m * run.size_Q, run.size_Q)]
    x_QP = np.stack(columns, axis=1)
    width = x_QP.shape[1]
    products = (x_QP[:, :, None] * x_QP[:, None, :]).reshape(count, width * width)

    def shift_and_error(sums_RP: FloatArray, squares_RPP: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the change of the value and its standard error: of sum_q w_q (k · x_q)², k the ratio's derivative."""
        size_RJ = sums_RP[:, 1::2]
        sign_J = np.array([1.0, -1.0])[: len(runs)]
        shift_RJ = sums_RP[:, 0::2] / size_RJ
        k_RP = np.empty_like(sums_RP)
        k_RP[:, 0::2] = sign_J / size_RJ
        k_RP[:, 1::2] = -sign_J * shift_RJ / size_RJ
        variance = np.einsum("rp,rpq,rq->r", k_RP, squares_RPP, k_RP) * count / (count - 1)
        return shift_RJ @ sign_J, np.sqrt(np.maximum(variance, 0.0))

    _, errors = shift_and_error(x_QP.sum(axis=0)[None], products.sum(axis=0).reshape(1, width, width))
    error = float(errors[0])
    # Below this the spread is the rounding of a constant, and t* a quotient of roundings.
    if error <= 1e-12 * max(1.0, *(abs(m) for m in means)):
        return Estimate(value, value, value, float(value == 0) if len(runs) == 2 else None)
    found = []
    for weights_RQ in resamples(count, repeats, seed):
        shift, spread = shift_and_error(weights_RQ @ x_QP, (weights_RQ @ products).reshape(-1, width, width))
        with np.errstate(divide="ignore", invalid="ignore"):
            # A resample of equal values has no spread: its mean is infinitely many of its own errors away. What is left
            # of a spread then is the root of a rounding, about 1e-8 of the error.
            t = shift / np.where(spread <= 1e-6 * error, 0.0, spread)
        found.append(np.where(np.isnan(t), 0.0, t))
    t = np.concatenate(found)
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    p = None
    if len(runs) == 2:
        beyond = min((t >= value / error).sum(), (t <= value / error).sum())
        p = min(1.0, 2 * (1 + float(beyond)) / (1 + len(t)))
    return Estimate(value, value - float(high) * error, value - float(low) * error, p)


def resamples(count: int, repeats: int, seed: int, items: int | None = None) -> Iterator[FloatArray]:
    """Yields chunks (r, Q) of the multiplicities with which Q questions are drawn, ``repeats`` rows in all; a chunk's
    rows times ``items`` (Q, if None) numbers are held at a time, and the draws do not depend on it."""
    rng = np.random.default_rng([seed, count])
    size = max(1, _CELLS // max(items or count, 1))
    for begin in range(0, repeats, size):
        rows = min(size, repeats - begin)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=rows * count).reshape(rows, count).astype(np.float64)


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
    """Bootstraps over questions: ``statistic`` takes multiplicities of the items, (R, n), and returns (R,).

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


def _left_out(statistic: Callable[[FloatArray], FloatArray], index: NDArray[np.int64], count: int) -> FloatArray:
    """Returns the statistic without each block of questions in turn."""
    blocks = min(count, _JACKKNIFE)
    block_N = (np.arange(count) * blocks // count)[index]
    size = max(1, _CELLS // max(len(index), 1))
    parts = [np.arange(begin, min(begin + size, blocks)) for begin in range(0, blocks, size)]
    return np.concatenate([statistic((block_N[None, :] != part[:, None]).astype(np.float64)) for part in parts])


def _bca_tails(replicates: FloatArray, value: float, left_out: FloatArray, tails: FloatArray) -> FloatArray:
    """Returns Efron's corrected tail probabilities; the plain ones if nothing varies."""
    below = (np.mean(replicates < value) + np.mean(replicates <= value)) / 2
    bias = special.ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    pull = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + z / (1 - acceleration * z)))
