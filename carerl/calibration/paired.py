"""Two runs on the same questions: differences with intervals that use the pairing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from .bins import FloatArray
from .confidence import Judged
from .debiased import debiased_ece
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


def compare_runs(
    a: Judged,
    b: Judged,
    *,
    bins: int = 10,
    coverages: Sequence[float] = COVERAGES,
    level: float = LEVEL,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """a - b under the names of :func:`carerl.calibration.measure.measure`, every name always there.

    Questions are paired by name and resampled for both runs together; a question may have more samples in one run.

    ``accuracy``
        Student's t after one imagined question won and one lost (Bonett and Price 2012), so that runs that differ
        nowhere are not certain to be equal.
    ``overconfidence``, ``brier``, ``nll``
        Studentised bootstrap of the difference. NLL clips both runs alike, at the coarser of the two.
    ``auroc``
        The paired test of DeLong et al. (1988), over clusters, with Student's t; NaN as :func:`auroc_interval`.
    ``aurc``, ``accuracy_at_80`` …
        BCa bootstrap of the difference.
    ``ece_debiased``
        [ours] Difference of the debiased estimates; interval from those of the two runs by the method of variance
        estimates recovery (Zou and Donner 2008), as if they were independent. Bootstraps of the difference covered far
        less (59 to 100 %) where one run is calibrated and the other is not, because the biases differ.

    Raises ValueError if the runs have not the same questions, or none.
    """
    names = sorted(set(a.questions))
    missing = set(names) ^ set(b.questions)
    if missing or not names:
        raise ValueError(f"paired runs need the same questions: {len(missing)} are in one only {sorted(missing)[:3]}")
    index_a, index_b = (np.searchsorted(names, np.asarray(run.questions)) for run in (a, b))
    count = len(names)
    clip = max(vote_clip(a.votes), vote_clip(b.votes))

    def sums(left: FloatArray, right: FloatArray) -> list[QuestionSums]:
        return [sums_over_questions(left, index_a, count), sums_over_questions(right, index_b, count)]

    def mean(left: FloatArray, right: FloatArray) -> Estimate:
        return studentised_interval(sums(left, right), level, repeats, seed)

    found = {
        "accuracy": _share_difference(sums(a.correct, b.correct), level),
        "overconfidence": mean(a.confidence - a.correct, b.confidence - b.correct),
        "ece_debiased": _ece_difference(a, b, bins, level, seed),
        "brier": mean(brier_scores(a.confidence, a.correct), brier_scores(b.confidence, b.correct)),
        "nll": mean(nll_scores(a.confidence, a.correct, clip), nll_scores(b.confidence, b.correct, clip)),
    }
    moments = [auroc_moments(run.confidence, run.correct, i, count) for run, i in ((a, index_a), (b, index_b))]
    difference = moments[0].area - moments[1].area
    error = math.sqrt(float(((moments[0].influence_Q - moments[1].influence_Q) ** 2).sum()))
    degrees = [m.degrees for m in moments if not math.isnan(m.degrees)]
    if min(m.fewest for m in moments) >= 2 and degrees:
        half = float(special.stdtrit(min(degrees), (1 + level) / 2)) * error
        found["auroc"] = Estimate(difference, difference - half, difference + half)
    else:
        found["auroc"] = Estimate(difference)

    blocks_a, blocks_b = RankedBlocks(a.confidence, a.correct), RankedBlocks(b.confidence, b.correct)

    def resampled(coverage: float | None) -> Estimate:
        def statistic(weights_RQ: FloatArray) -> FloatArray:
            left, right = weights_RQ[:, index_a], weights_RQ[:, index_b]
            if coverage is None:
                return blocks_a.aurc(left) - blocks_b.aurc(right)
            return blocks_a.accuracy_at_coverage(left, coverage) - blocks_b.accuracy_at_coverage(right, coverage)

        value = float(statistic(np.ones((1, count)))[0])
        return bootstrap_interval(statistic, value, None, count, level, repeats, seed)

    found["aurc"] = resampled(None)
    for coverage in coverages:
        found[f"accuracy_at_{100 * coverage:g}"] = resampled(coverage)
    return found


def _share_difference(runs: Sequence[QuestionSums], level: float) -> Estimate:
    """Mean of a - b; the interval is about the difference shrunk by the two imagined questions."""
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
    half = float(special.stdtrit(count + 1, (1 + level) / 2)) * float(with_two.std(ddof=1)) / math.sqrt(count + 2)
    middle = float(with_two.mean())
    return Estimate(value, max(-1.0, middle - half), min(1.0, middle + half))


def _ece_difference(a: Judged, b: Judged, bins: int, level: float, seed: int) -> Estimate:
    x, y = (
        debiased_ece(run.confidence, run.correct, np.asarray(run.questions), bins, level=level, seed=seed)
        for run in (a, b)
    )
    value = x.value - y.value
    below = math.hypot(x.value - x.low, y.high - y.value)
    above = math.hypot(x.high - x.value, y.value - y.low)
    return Estimate(value, value - below, value + above)
