"""All metrics of one set of answers, under stable names, for the evaluation in the loop and for the command alike.

Every name is always there, in this order, with its interval over questions:

============================  ===========================================================================
``accuracy``                  mean correctness; Wilson's interval
``confidence``                mean confidence; studentised bootstrap, as for the next
``overconfidence``            mean of confidence - correctness: signed, above 0 claims too much
``ece``                       plug-in, ten equal widths; no interval: it is biased upwards
``ece_debiased``              the same without most of its bias; interval by test inversion
``ece_count``                 plug-in, equal counts; this is the adaptive error (ACE), listed once
``ece_count_debiased``        as ``ece_debiased``, the bins' edges taken as given
``ece_unique``                plug-in, a bin for each distinct confidence; of votes only, NaN otherwise
``mce``                       plug-in, equal widths; no interval: the largest of noisy gaps
``brier``                     studentised bootstrap
``brier_reliability``         Ferro and Fricker's parts over the equal-width bins, without intervals; debiased
``brier_resolution``          if labels are 0 or 1
``brier_uncertainty``
``nll``                       nats; clipped to half a vote, or .001 (:func:`vote_clip`); studentised bootstrap
``auroc``                     DeLong's on the logit scale; NaN for one class or labels that are not 0 or 1
``aurc``                      BCa bootstrap, as for the next
``accuracy_at_80`` …          accuracy on the most confident 80 % …, one for each coverage
``ece_floor_labels``          ``ece`` if each confidence were the probability of being right: mean of the
                              simulation, and the range of its central 95 %; NaN unless labels are 0 or 1
``ece_floor_votes``           ``ece`` of a perfect model asked ``votes`` times, likewise; NaN without a table and
                              votes
============================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from .bins import FloatArray, checked, ece, mce
from .debiased import debiased_ece
from .floors import AnswerTable, Floor, labels_floor, votes_floor
from .intervals import (
    LEVEL,
    REPEATS,
    Estimate,
    auroc_interval,
    bootstrap_interval,
    clusters,
    mean_interval,
    share_interval,
)
from .proper_scores import CLIP, brier_decomposition, brier_scores, nll_scores
from .ranking import RankedBlocks, accuracy_at_coverage, aurc

COVERAGES = (0.8,)
_STREAM_LABELS, _STREAM_VOTES = 1, 2


def vote_clip(votes: int) -> float:
    """Returns where NLL clips: half a vote, 1/(2N), for shares of N votes; .001 otherwise (``votes`` = 0)."""
    return 1 / (2 * votes + 1e-9) if votes > 1 else CLIP


def measure(
    confidence: ArrayLike,
    correct: ArrayLike,
    questions: ArrayLike | None = None,
    *,
    votes: int = 0,
    table: AnswerTable | None = None,
    labels: ArrayLike | None = None,
    coverages: Sequence[float] = COVERAGES,
    repeats: int = REPEATS,
) -> dict[str, Estimate]:
    """Measures confidences against correctness; the names and methods are in the module docstring.

    ``questions``: (N,) the question of each item, None if each has its own. ``votes``, ``labels``: see
    :class:`carerl.calibration.confidence.Judged`. ``table``: a row for each question, see
    :func:`carerl.calibration.floors.observed_answers`; it is of majority votes, so with one item a question. Values are
    a function of the arguments alone. NaN without data; bounds are NaN without an interval. Raises ValueError for
    confidence or correctness outside [0, 1] and for unequal lengths.
    """
    c, a = checked(confidence, correct)
    _, count = clusters(questions, len(c))
    binary = bool(np.all((a == 0) | (a == 1)))
    if table is not None and not len(table.answers_QV) == count == len(c):
        raise ValueError(
            f"table: {len(table.answers_QV)} rows for {count} questions with {len(c)} items; one item each"
        )

    def mean(values: ArrayLike) -> Estimate:
        return mean_interval(values, questions, repeats=repeats)

    found = {"accuracy": share_interval(a, questions), "confidence": mean(c), "overconfidence": mean(c - a)}
    for name, scheme in (("ece", "width"), ("ece_count", "count")):
        found[name] = Estimate(ece(confidence, correct, scheme=scheme))
        found[f"{name}_debiased"] = debiased_ece(confidence, correct, questions, scheme=scheme)
    found["ece_unique"] = Estimate(ece(confidence, correct, scheme="unique") if votes else float("nan"))
    found["mce"] = Estimate(mce(confidence, correct))
    found["brier"] = mean(brier_scores(c, a))
    parts = brier_decomposition(confidence, correct, debiased=binary)
    found["brier_reliability"] = Estimate(parts.reliability)
    found["brier_resolution"] = Estimate(parts.resolution)
    found["brier_uncertainty"] = Estimate(parts.uncertainty)
    found["nll"] = mean(nll_scores(c, a, vote_clip(votes)))
    found["auroc"] = auroc_interval(c, a, questions) if binary else Estimate(float("nan"))
    found |= _selective(c, a, questions, coverages, repeats)

    by_labels = by_votes = Floor(np.empty(0))
    if binary:
        by_labels = labels_floor(confidence, np.random.default_rng([0, _STREAM_LABELS]), groups=labels)
    if table is not None and votes:
        by_votes = votes_floor(table, votes, np.random.default_rng([0, _STREAM_VOTES]), draw_labels=binary)
    found |= {"ece_floor_labels": _floor(by_labels), "ece_floor_votes": _floor(by_votes)}
    return found


def _selective(
    c: FloatArray, a: FloatArray, questions: ArrayLike | None, coverages: Sequence[float], repeats: int
) -> dict[str, Estimate]:
    """Measures answering only the most confident questions."""
    blocks = RankedBlocks(c, a)
    found = {"aurc": bootstrap_interval(blocks.aurc, aurc(c, a), questions, len(c), repeats=repeats)}
    for coverage in coverages:
        statistic = partial(blocks.accuracy_at_coverage, coverage=coverage)
        value = accuracy_at_coverage(c, a, coverage)
        found[f"accuracy_at_{100 * coverage:g}"] = bootstrap_interval(
            statistic, value, questions, len(c), repeats=repeats
        )
    return found


def _floor(found: Floor) -> Estimate:
    return Estimate(found.mean, *found.range(LEVEL))
