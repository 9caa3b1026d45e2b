"""Two runs on the same questions: differences with intervals that use the pairing.

Questions are paired by name and resampled for both runs together; a question may have more samples in one run. Every
estimate but those of the last line has a p-value that says the same as its interval.

``accuracy``
    Student's t after one imagined question won and one lost (Bonett and Price 2012), so that runs that differ nowhere
    are not certain to be equal.
``overconfidence``, ``brier``, ``nll``
    Studentised bootstrap of the difference; p is 2/(repeats + 1) at least. NLL clips both runs alike, at the coarser of
    the two.
``auroc``
    The paired test of DeLong et al. (1988), over clusters, with Student's t. NaN for one class or labels that are not 0
    or 1; no interval if neither area varies and they differ.
``ece_debiased``
    [ours] Difference of the debiased estimates; interval from those of the two runs by the method of variance estimates
    recovery (Zou and Donner 2008), as if they were independent. Bootstraps of the difference covered far less (59 to
    100 %) if one run is calibrated and the other is not, because the biases differ. p, found by bisection over levels,
    is 2/draws at least.
``aurc``, ``accuracy_at_80`` …
    BCa bootstrap of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .bins import FloatArray
from .confidence import Judged
from .debiased import DRAWS, inversion
from .intervals import (
    LEVEL,
    REPEATS,
    Estimate,
    QuestionSums,
    auroc_moments,
    bootstrap_interval,
    studentised_interval,
    sums_over_questions,
)
from .measure import COVERAGES, vote_clip
from .proper_scores import brier_scores, nll_scores
from .ranking import RankedBlocks

METRICS = ("accuracy", "overconfidence", "ece_debiased", "brier", "nll", "auroc", "aurc")


def paired_differences(
    a: Judged,
    b: Judged,
    *,
    metrics: Sequence[str] = METRICS,
    coverages: Sequence[float] = COVERAGES,
    level: float = LEVEL,
    repeats: int = REPEATS,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Returns a - b under the names of :func:`carerl.calibration.measure.measure`: ``metrics`` in their order, every
    name always there, then accuracy at ``coverages``. The methods are in the module docstring.

    Raises ValueError if the runs do not have the same questions, or have none.
    """
    names = sorted(set(a.questions))
    missing = set(names) ^ set(b.questions)
    if missing or not names:
        raise ValueError(f"paired runs need the same questions: {len(missing)} are in one only {sorted(missing)[:3]}")
    runs = [(run, np.searchsorted(names, np.asarray(run.questions))) for run in (a, b)]
    count, clip = len(names), max(vote_clip(a.votes), vote_clip(b.votes))

    def sums(of: Callable[[Judged], FloatArray]) -> list[QuestionSums]:
        return [sums_over_questions(of(run), index, count) for run, index in runs]

    def mean(of: Callable[[Judged], FloatArray]) -> Estimate:
        return studentised_interval(sums(of), level, repeats, seed)

    def resampled(coverage: float | None) -> Estimate:
        statistic = _ranking_difference(runs, coverage)
        value = float(statistic(np.ones((1, count)))[0])
        return bootstrap_interval(statistic, value, None, count, level, repeats, seed)

    make: dict[str, Callable[[], Estimate]] = {
        "accuracy": lambda: _share_difference(sums(lambda run: run.correct), level),
        "overconfidence": lambda: mean(lambda run: run.confidence - run.correct),
        "ece_debiased": lambda: _ece_difference(a, b, level, seed, draws),
        "brier": lambda: mean(lambda run: brier_scores(run.confidence, run.correct)),
        "nll": lambda: mean(lambda run: nll_scores(run.confidence, run.correct, clip)),
        "auroc": lambda: _auroc_difference(runs, count, level),
        "aurc": partial(resampled, None),
    }
    found = {name: make[name]() for name in metrics}
    return found | {f"accuracy_at_{100 * coverage:g}": resampled(coverage) for coverage in coverages}


def _auroc_difference(runs: Sequence[tuple[Judged, NDArray[np.int64]]], count: int, level: float) -> Estimate:
    if not all(np.isin(run.correct, (0, 1)).all() for run, _ in runs):
        return Estimate(float("nan"))
    moments = [auroc_moments(run.confidence, run.correct, index, count) for run, index in runs]
    difference = moments[0].area - moments[1].area
    error = math.sqrt(float(((moments[0].influence_Q - moments[1].influence_Q) ** 2).sum()))
    degrees = [m.degrees for m in moments if not math.isnan(m.degrees)]
    if min(m.fewest for m in moments) < 2 or not degrees or (difference and not error):
        return Estimate(difference)
    return _student(difference, difference, error, min(degrees), level)


def _ranking_difference(
    runs: Sequence[tuple[Judged, NDArray[np.int64]]], coverage: float | None
) -> Callable[[FloatArray], FloatArray]:
    """Returns the difference of AURC (of accuracy at ``coverage``, if one is given) as a function of the questions'
    multiplicities (R, Q)."""
    blocks = [(RankedBlocks(run.confidence, run.correct), index) for run, index in runs]

    def statistic(weights_RQ: FloatArray) -> FloatArray:
        first, second = (
            ranked.aurc(weights_RQ[:, index])
            if coverage is None
            else ranked.accuracy_at_coverage(weights_RQ[:, index], coverage)
            for ranked, index in blocks
        )
        return np.asarray(first - second)

    return statistic


def _student(value: float, middle: float, error: float, degrees: float, level: float) -> Estimate:
    """Returns ``middle`` ± t · ``error`` around a value, and the p-value of that interval: 1 if both are 0."""
    half = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    p = 2 * float(special.stdtr(degrees, -abs(middle) / error)) if error else float(middle == 0)
    return Estimate(value, middle - half, middle + half, p)


def _share_difference(runs: Sequence[QuestionSums], level: float) -> Estimate:
    """Returns the mean of a - b; the interval is about the difference shrunk by the two imagined questions."""
    a, b = runs
    value = a.mean - b.mean
    count = len(a.total_Q)
    if count < 2:
        return Estimate(value)
    # Each question's share in the difference, times Q: a mean of these is the difference, whatever the sizes.
    part_Q = value + count * (
        (a.total_Q - a.mean * a.size_Q) / a.size_Q.sum() - (b.total_Q - b.mean * b.size_Q) / b.size_Q.sum()
    )
    with_two = np.append(part_Q, [1.0, -1.0])
    error = float(with_two.std(ddof=1)) / math.sqrt(count + 2)
    found = _student(value, float(with_two.mean()), error, count + 1, level)
    return Estimate(value, max(-1.0, found.low), min(1.0, found.high), found.p)


def _ece_difference(a: Judged, b: Judged, level: float, seed: int, draws: int) -> Estimate:
    x, y = (inversion(run.confidence, run.correct, np.asarray(run.questions), seed=seed, draws=draws) for run in (a, b))

    def at(level: float) -> Estimate:
        one, other = x.interval(level), y.interval(level)
        value = one.value - other.value
        below = math.hypot(one.value - one.low, other.high - other.value)
        above = math.hypot(one.high - one.value, other.value - other.low)
        return Estimate(value, value - below, value + above)

    found = at(level)
    if math.isnan(found.low):
        return found
    return Estimate(found.value, found.low, found.high, _least_alpha(lambda alpha: 0.0 in at(1 - alpha), 2 / draws))


def _least_alpha(holds: Callable[[float], bool], floor: float) -> float:
    """Finds the least alpha from ``floor`` to 1 whose interval does not hold 0; 1 if every interval does. To 1 %."""
    if not holds(floor):
        return floor
    low, high = floor, 1.0
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
