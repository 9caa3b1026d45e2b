"""Temperature scaling of an evaluation: the cheap baseline that a method has to beat.

For each run one temperature (:mod:`carerl.calibration.temperature`) is fitted on its own evaluation's validation suite:
on the majority answer's share of the votes, against whether that answer is right. It is applied to the reported suites
and never fitted on one of them. Shares are clipped to half a vote, so that a unanimous vote counts as 1 - 1/(2N), and a
question without any answer keeps its 0. The answers stay the same, and with them accuracy, AUROC and the curve over
coverage; ECE, Brier and NLL change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carerl.calibration import (
    REPEATS,
    Estimate,
    Temperature,
    auroc_interval,
    brier_scores,
    debiased_ece,
    ece,
    fit_temperature,
    mean_interval,
    nll_scores,
    share_interval,
    vote_clip,
)
from carerl.metrics.table import suite_column
from carerl.runs.questions import Asked, FloatArray, asked
from carerl.tasks.base import VALIDATION

SETTING = "task.validation_questions"
SCALED = "+ temperature"  # begins the label of a scaled row


@dataclass(frozen=True, slots=True)
class Measure:
    """Describes a column of the tables. ``scaled``: temperature scaling changes it."""

    name: str
    scaled: bool = False

    @property
    def label(self) -> str:
        """The column's head."""
        return suite_column(self.name).label_in("column")

    @property
    def better(self) -> int:
        """+1 where more is better, -1 where less is."""
        return suite_column(self.name).better


MEASURES: tuple[Measure, ...] = (
    Measure("answered"),
    Measure("maj"),
    Measure("ece", True),
    Measure("ece_debiased", True),
    Measure("brier", True),
    Measure("nll", True),
    Measure("auroc"),
)


def measures(found: Asked, confidence: FloatArray, repeats: int = REPEATS) -> dict[str, Estimate]:
    """Returns the calibration of the majority answers, held with ``confidence`` (Q,), under the names of
    :data:`MEASURES`. ``repeats``: of the bootstrap; few are enough where the intervals are not shown."""
    nothing = Estimate(math.nan)

    def mean(scores: FloatArray) -> Estimate:
        return mean_interval(scores, repeats=repeats)

    return {
        "answered": Estimate(found.answered) if found.answered is not None else nothing,
        "maj": share_interval(found.right),
        "ece": Estimate(ece(confidence, found.right)),
        "ece_debiased": debiased_ece(confidence, found.right),
        "brier": mean(brier_scores(confidence, found.right)),
        "nll": mean(nll_scores(confidence, found.right, vote_clip(found.votes))),
        "auroc": auroc_interval(confidence, found.right) if found.binary else nothing,
    }


@dataclass(frozen=True, slots=True)
class Rescaled:
    """Holds one evaluation after temperature scaling. ``fitted_on`` counts the validation questions with an answer.
    ``suites`` has, by suite, the measures that scaling changes; ``confidence`` the scaled confidences (Q,)."""

    temperature: Temperature
    fitted_on: int
    suites: dict[str, dict[str, Estimate]]
    confidence: dict[str, FloatArray]


def rescale(
    questions: Sequence[Mapping[str, Any]], shown: Mapping[str, Asked], repeats: int = REPEATS
) -> Rescaled | None:
    """Fits a temperature on the validation suite and applies it to ``shown``, the reported suites among ``questions``.

    Returns None without a validation suite. Raises ValueError if no validation question has an answer, or if a reported
    question is one of them."""
    held = asked(questions).get(VALIDATION)
    if held is None:
        return None
    fitted = fit_temperature(held.confidence, held.right, held.ids, vote_clip(held.votes))
    confidence = {suite: fitted.apply(found.confidence, found.ids) for suite, found in shown.items()}
    changed = {
        suite: {m.name: measures(found, confidence[suite], repeats)[m.name] for m in MEASURES if m.scaled}
        for suite, found in shown.items()
    }
    return Rescaled(fitted, int((held.confidence > 0).sum()), changed, confidence)


def no_validation(settings: Mapping[str, object]) -> str:
    """Says why a run has no validation questions, and what to set. ``settings``: flat."""
    if SETTING in settings:
        return f"no validation suite; {SETTING}=200, for example, sets 200 training questions aside for one"
    return f"no validation suite; task {settings.get('task.name')} has no setting that makes one"


def scaled_label(temperatures: Sequence[tuple[Temperature, int]]) -> str:
    """Returns ``+ temperature (T = 1.43, fitted on validation, n = 200)``, from least to greatest over seeds."""
    values = sorted(fitted.value for fitted, _ in temperatures)
    counts = sorted(count for _, count in temperatures)
    bound = ", at its bound" if any(fitted.bounded for fitted, _ in temperatures) else ""
    return f"{SCALED} (T = {_span(values, '.2f')}{bound}, fitted on validation, n = {_span(counts, 'd')})"


def _span(values: Sequence[float], form: str) -> str:
    ends = list(dict.fromkeys(format(value, form) for value in (values[0], values[-1])))
    return "–".join(ends)
