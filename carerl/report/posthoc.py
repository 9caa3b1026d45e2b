"""Post-hoc calibration of an evaluation: the cheap baselines that a method has to beat.

For each run, and each kind of confidence in :data:`ESTIMATORS`, every scaler in :data:`SCALERS` is fitted on the run's
own validation suite: on the confidences, against whether what they are of is right. It is applied to the reported
suites and never fitted on one of them. The answers stay the same, and with them accuracy. A confidence of 0, of an item
without an answer, stays 0. Shares of votes are clipped to half a vote where a logit is needed, so that a unanimous vote
counts as 1 - 1/(2N); probabilities to .001.

A new scaler is a function that fits it, one that puts fitted ones into words, and its line in the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carerl.calibration import (
    REPEATS,
    Calibrator,
    Estimate,
    Isotonic,
    Judged,
    Temperature,
    auroc_interval,
    brier_scores,
    debiased_ece,
    ece,
    fit_isotonic,
    fit_temperature,
    mean_interval,
    nll_scores,
    share_interval,
    vote_clip,
)
from carerl.metrics.table import suite_column
from carerl.runs.questions import DECISION_COLUMNS, Asked, FloatArray, asked
from carerl.tasks.base import VALIDATION

SETTING = "task.validation_questions"
MAJORITY = "majority"
ESTIMATORS = (MAJORITY, *DECISION_COLUMNS)  # of confidence; the majority's is over questions, the others over samples


@dataclass(frozen=True, slots=True)
class Measure:
    """Describes a column of the tables. ``of``: what a scaler must change to change it, ``answers``, the ``order`` of
    confidences or their ``values``."""

    name: str
    of: str

    @property
    def label(self) -> str:
        """The column's head."""
        return suite_column(self.name).label_in("column")


def measures_of(estimator: str) -> tuple[Measure, ...]:
    """Returns the columns of an estimator's tables."""
    if estimator == MAJORITY:
        answers, values = ["answered", "maj"], ["ece", "ece_debiased", "brier", "nll"]
    else:  # equal counts, as arXiv 2601.13284 has; shares of votes are too often equal for them
        answers, values = ["accuracy"], ["ece", "ece_debiased", "ece_count", "brier", "nll"]
    made = [Measure(name, "answers") for name in answers] + [Measure(name, "values") for name in values]
    return (*made, Measure("auroc", "order"))


def kind_of(estimator: str, measure: str) -> str:
    """Returns the last part of a measure's name, as in the table of metrics.

    >>> kind_of("majority", "ece"), kind_of("answer_prob", "ece")
    ('ece', 'answer_prob_ece')
    """
    return measure if estimator == MAJORITY else f"{estimator}_{measure}"


def judged_by(found: Asked, estimator: str) -> Judged | None:
    """Returns a suite's items with the confidence of ``estimator``; None where it has none."""
    return found.judged if estimator == MAJORITY else found.decided.get(estimator)


def measures(found: Judged, names: Sequence[str], repeats: int = REPEATS) -> dict[str, Estimate]:
    """Returns the measures of ``names``, but for the share of answered samples, which these items do not tell.
    ``repeats``: of the bootstrap; few are enough where the intervals are not shown."""
    c, right, questions = found.confidence, found.correct, found.questions

    def mean(scores: FloatArray) -> Estimate:
        return mean_interval(scores, questions, repeats=repeats)

    binary = bool(((right == 0) | (right == 1)).all())
    made: dict[str, Callable[[], Estimate]] = {
        "maj": lambda: share_interval(right, questions),
        "accuracy": lambda: share_interval(right, questions),
        "ece": lambda: Estimate(ece(c, right)),
        "ece_count": lambda: Estimate(ece(c, right, scheme="count")),
        "ece_debiased": lambda: debiased_ece(c, right, questions),
        "brier": lambda: mean(brier_scores(c, right)),
        "nll": lambda: mean(nll_scores(c, right, vote_clip(found.votes))),
        "auroc": lambda: auroc_interval(c, right, questions) if binary else Estimate(math.nan),
    }
    return {name: made[name]() for name in names if name in made}


def plain_measures(found: Asked, estimator: str, repeats: int = REPEATS) -> dict[str, Estimate]:
    """Returns the measures of a suite as it is; none where it lacks the estimator."""
    judged = judged_by(found, estimator)
    if judged is None:
        return {}
    names = [measure.name for measure in measures_of(estimator)]
    answered = Estimate(math.nan if found.answered is None else found.answered)
    return ({"answered": answered} if "answered" in names else {}) | measures(judged, names, repeats)


@dataclass(frozen=True, slots=True)
class Scaler:
    """Describes one way of calibrating afterwards. ``fit`` takes the validation items. ``words`` says what was found,
    over seeds. ``keeps``: the estimators whose order it keeps, so that AUROC does not change. ``means``: in notes."""

    name: str
    fit: Callable[[Judged], Calibrator]
    words: Callable[[Sequence[Any]], str]
    keeps: tuple[str, ...]
    means: str

    @property
    def sign(self) -> str:
        """What begins the label of a row of it."""
        return f"+ {self.name}"

    def changes(self, estimator: str) -> list[str]:
        """Returns the measures that it can change."""
        changed = ("values",) if estimator in self.keeps else ("values", "order")
        return [measure.name for measure in measures_of(estimator) if measure.of in changed]


def _fit_temperature(held: Judged) -> Temperature:
    return fit_temperature(held.confidence, held.correct, held.questions, vote_clip(held.votes))


def _temperature_words(fitted: Sequence[Temperature]) -> str:
    bound = ", at its bound" if any(one.bounded for one in fitted) else ""
    return f"T = {_span([one.value for one in fitted], '.2f')}{bound}"


def _fit_isotonic(held: Judged) -> Isotonic:
    return fit_isotonic(held.confidence, held.correct, held.questions)


def _isotonic_words(fitted: Sequence[Isotonic]) -> str:
    levels = _span([one.levels for one in fitted], "d")
    return f"{levels} {'level' if levels == '1' else 'levels'}"


SCALERS: tuple[Scaler, ...] = (
    # beyond the clip a temperature makes probabilities equal, and so it keeps the order of votes alone
    Scaler("temperature", _fit_temperature, _temperature_words, (MAJORITY,), "one temperature a run"),
    Scaler("isotonic", _fit_isotonic, _isotonic_words, (), "isotonic regression"),
)


@dataclass(frozen=True, slots=True)
class Fit:
    """Holds one fitted scaler. ``items`` and ``questions`` count what it was fitted on, those without an answer left
    out."""

    scaler: Scaler
    estimator: str
    calibrator: Calibrator
    items: int
    questions: int


@dataclass(frozen=True, slots=True)
class Rescaled:
    """Holds one evaluation after a scaler. ``suites`` has, by suite, the measures that it changes; ``confidence`` the
    changed confidences (N,)."""

    fit: Fit
    suites: dict[str, dict[str, Estimate]]
    confidence: dict[str, FloatArray]


def rescale(
    questions: Sequence[Mapping[str, Any]], shown: Mapping[str, Asked], repeats: int = REPEATS
) -> list[Rescaled] | None:
    """Fits every scaler on the validation suite and applies it to ``shown``, the reported suites among ``questions``:
    estimator by estimator, as far as validation and a reported suite have it.

    Returns None without a validation suite. Raises ValueError if no validation question has an answer, or if a reported
    question is one of them."""
    validation = asked(questions).get(VALIDATION)
    if validation is None:
        return None
    made = []
    for estimator in ESTIMATORS:
        held = judged_by(validation, estimator)
        items = {suite: judged for suite, found in shown.items() if (judged := judged_by(found, estimator))}
        if held is not None and items:
            made += [_rescaled(scaler, estimator, held, items, repeats) for scaler in SCALERS]
    return made


def _rescaled(scaler: Scaler, estimator: str, held: Judged, items: Mapping[str, Judged], repeats: int) -> Rescaled:
    calibrator = scaler.fit(held)
    there = held.confidence > 0
    asked_of = {name for name, answered in zip(held.questions, there, strict=True) if answered}
    fit = Fit(scaler, estimator, calibrator, int(there.sum()), len(asked_of))
    confidence = {suite: calibrator.apply(one.confidence, one.questions) for suite, one in items.items()}
    changed = {
        suite: measures(replace(one, confidence=confidence[suite]), scaler.changes(estimator), repeats)
        for suite, one in items.items()
    }
    return Rescaled(fit, changed, confidence)


def effect(fit: Fit) -> str:
    """Says what a scaler leaves alone, beside its label."""
    if fit.estimator in fit.scaler.keeps:
        return "no answer and no order changes"
    return "no answer changes; confidences can become equal, which changes AUROC"


def no_validation(settings: Mapping[str, object]) -> str:
    """Says why a run has no validation questions, and what to set. ``settings``: flat."""
    if SETTING in settings:
        return f"no validation suite; {SETTING}=200, for example, sets 200 training questions aside for one"
    return f"no validation suite; task {settings.get('task.name')} has no setting that makes one"


def fit_label(fits: Sequence[Fit]) -> str:
    """Returns ``+ temperature (T = 1.43, fitted on validation, n = 200)`` of one scaler's fits, from least to greatest
    over seeds; ``+ isotonic (answer_prob, 9 levels, fitted on validation, n = 200 questions, 3200 samples)`` of a
    confidence over samples. n counts questions, as few of them overfit."""
    scaler, estimator = fits[0].scaler, fits[0].estimator
    of, count = "", f"n = {_span([fit.questions for fit in fits], 'd')}"
    if estimator != MAJORITY:
        of, count = f"{estimator}, ", f"{count} questions, {_span([fit.items for fit in fits], 'd')} samples"
    words = scaler.words([fit.calibrator for fit in fits])
    return f"{scaler.sign} ({of}{words}, fitted on validation, {count})"


def _span(values: Sequence[float], form: str) -> str:
    ends = list(dict.fromkeys(format(value, form) for value in (min(values), max(values))))
    return "–".join(ends)
