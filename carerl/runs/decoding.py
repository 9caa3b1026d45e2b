"""Measures methods of inference on the questions that they decoded: accuracy, calibration and cost, with intervals.

Names are those of :mod:`carerl.metrics.decoding`. Intervals are over questions, paired where methods are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from carerl.calibration import (
    Estimate,
    auroc_interval,
    brier_scores,
    debiased_ece,
    ece,
    mean_interval,
    share_interval,
)
from carerl.inference.budgets import Curve, curve, difference_at_equal_budget, difference_at_equal_tokens
from carerl.inference.methods import METHODS
from carerl.runs.decoded import Answered

BASELINE = "self_consistency"
FACTS = {  # figures that are means over questions of what a method says of each, by the facts that they are taken from
    "threshold": ("threshold", "bar"),
    "confidence_width": ("confidence_width",),
}
FloatArray = NDArray[np.float64]


def measures(found: Mapping[str, Mapping[str, Sequence[Answered]]]) -> dict[str, Estimate]:
    """Returns every metric of every method. ``found``: suite -> method -> its questions. What cannot be computed is
    left out: a difference without the baseline or with other questions, a threshold of a method that has none."""
    made: dict[str, Estimate] = {}
    for suite, methods in found.items():
        baseline = _Baseline(methods.get(BASELINE) or ())
        for method, questions in methods.items():
            figures = method_figures(questions)
            if method != BASELINE:
                figures |= gains(method, questions, baseline)
            made |= {f"decode/{suite}/{method}/{name}": estimate for name, estimate in figures.items()}
    return made


def metrics_and_intervals(made: Mapping[str, Estimate]) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Splits estimates into the values and the bounds of an evaluation's record."""
    bounds = {n: (one.low, one.high) for n, one in made.items() if math.isfinite(one.low) and math.isfinite(one.high)}
    return {name: one.value for name, one in made.items()}, bounds


def method_figures(questions: Sequence[Answered]) -> dict[str, Estimate]:
    """Returns the figures of one method on one suite. Empty without questions; AUROC, threshold and confidence_width
    only where there are any."""
    if not questions:
        return {}
    confidence_Q, right_Q = confidences(questions), rights(questions)
    branches = [branch for one in questions for branch in one.decoded.branches]
    debiased = debiased_ece(confidence_Q, right_Q)
    made = {
        "accuracy": share_interval(right_Q),
        "ece": Estimate(ece(confidence_Q, right_Q), debiased.low, debiased.high),
        "brier": mean_interval(brier_scores(confidence_Q, right_Q)),
        "auroc": auroc_interval(confidence_Q, right_Q),
        "confidence": Estimate(float(confidence_Q.mean())),
        "tokens": mean_interval([one.decoded.tokens for one in questions]),
        "seconds": Estimate(float(np.mean([one.seconds for one in questions]))),
        "unparsed": share_interval([float(one.decoded.winner < 0) for one in questions]),
        "branches": Estimate(len(branches) / len(questions)),
        "pruned": Estimate(float(np.mean([branch.pruned for branch in branches]))),
        "rounds": Estimate(float(np.mean([one.decoded.rounds for one in questions]))),
        "questions": Estimate(float(len(questions))),
    }
    facts = [one.decoded.facts for one in questions]
    for figure, names in FACTS.items():
        found = [of[name] for of in facts for name in names if math.isfinite(of.get(name, math.nan))]
        if found:
            made[figure] = Estimate(float(np.mean(found)))
    return {name: estimate for name, estimate in made.items() if not math.isnan(estimate.value)}


class _Baseline:
    """Holds the baseline's curve on one suite, which is made once, if a method needs it."""

    def __init__(self, questions: Sequence[Answered]) -> None:
        self._questions = questions
        self._places = {one.example_id: place for place, one in enumerate(questions)}

    def curve(self, questions: Sequence[Answered]) -> Curve | None:
        """Returns the curve with its rows in the order of a method's questions; None unless they are the same."""
        if not questions or {one.example_id for one in questions} != set(self._places):
            return None
        places = [self._places[one.example_id] for one in questions]
        return Curve(self._whole.tokens_QK[places], self._whole.right_QK[places])

    @cached_property
    def _whole(self) -> Curve:
        return curve_of(BASELINE, self._questions)


def gains(method: str, questions: Sequence[Answered], baseline: _Baseline) -> dict[str, Estimate]:
    """Returns a method's differences to the baseline: with the whole budget of both, and with as many tokens as the
    cheaper of the two draws; the second not where that is less than one response of the other. Empty where their
    questions are not the same."""
    if (theirs := baseline.curve(questions)) is None:
        return {}
    ours = curve_of(method, questions)
    made = {
        "equal_budget_gain": difference_at_equal_budget(ours, theirs),
        "equal_tokens_gain": difference_at_equal_tokens(ours, theirs),
    }
    return {name: estimate for name, estimate in made.items() if not math.isnan(estimate.value)}


def curve_of(method: str, questions: Sequence[Answered]) -> Curve:
    """Returns a method's accuracy over tokens. The branches of a method that is not known are taken as they were
    drawn."""
    return curve(
        [one.decoded.branches for one in questions],
        [[one.is_right(number) for number in range(len(one.decoded.branches))] for one in questions],
        questions[0].rule,
        method in METHODS and METHODS[method].exchangeable,
    )


def rights(questions: Sequence[Answered]) -> FloatArray:
    """Returns 1 for a question whose elected answer is right, else 0; (Q,)."""
    return np.array([float(one.right) for one in questions])


def confidences(questions: Sequence[Answered]) -> FloatArray:
    """Returns the confidence in the elected answers, 0 without one; (Q,), in [0, 1]."""
    return np.array([one.decoded.confidence if one.decoded.winner >= 0 else 0.0 for one in questions])
