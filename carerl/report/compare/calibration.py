"""Calibration of every method before and after temperature scaling: the cheap baseline that a method has to beat.

Of each run one temperature (:mod:`carerl.calibration.temperature`) is fitted on its own evaluation's validation suite,
on the majority answer's share of the votes against whether that answer is right, and applied to the reported suites; it
is never fitted on one of these. Shares are clipped to half a vote, so that a unanimous vote counts as 1 - 1/(2N), and a
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
from carerl.metrics.table import suite_column, suite_label
from carerl.report.compare.evaluated import Evaluated
from carerl.report.compare.rows import Cell, Comparison, Row, Scaled, make_cell
from carerl.runs.questions import Asked, FloatArray, asked, suite_names
from carerl.tasks.base import VALIDATION

SETTING = "task.validation_questions"
SCALED = "+ temperature"  # begins what a scaled row is called by


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the tables. ``scaled``: whether temperature scaling changes it."""

    name: str
    scaled: bool = False

    @property
    def label(self) -> str:
        return suite_column(self.name).label_in("column")

    @property
    def better(self) -> int:
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
    """Under the names of :data:`MEASURES`: of the majority answers, held with ``confidence`` (Q,). ``repeats``: of the
    bootstrap, few where nobody looks at the intervals."""
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
    """One evaluation after temperature scaling: ``fitted_on`` validation questions with an answer; by suite, what
    scaling changes."""

    temperature: Temperature
    fitted_on: int
    suites: dict[str, dict[str, Estimate]]
    confidence: dict[str, FloatArray]


def rescale(
    questions: Sequence[Mapping[str, Any]], shown: Mapping[str, Asked], repeats: int = REPEATS
) -> Rescaled | None:
    """``shown``: the reported suites among ``questions``. None without a validation suite. Raises ValueError where none
    of its questions has an answer, or where a reported question is one of them."""
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


def add_calibration(comparison: Comparison, evaluated: Mapping[str, Sequence[Evaluated]]) -> None:
    """Fills in every row's ``calibration`` and ``scaled``, under names such as ``calibration/gsm8k/ece``, and adds to
    the notes why a row is not scaled."""
    for row in comparison.rows:
        runs = evaluated.get(row.label, ())
        repeats = REPEATS if len(runs) == 1 else 2
        row.calibration = _cells({one.run.seed: _before(one, repeats) for one in runs})
        row.scaled = _scaled(runs, repeats)
        for plain, name in suite_names(row.runs[0].config).items():  # as the main table calls them
            if cell := row.scaled.cells.get(name):
                row.scaled.cells[plain] = cell
    comparison.notes += _notes(comparison.rows)


def _before(one: Evaluated, repeats: int) -> dict[str, Estimate]:
    return {
        f"calibration/{suite}/{name}": estimate
        for suite, found in one.reported.items()
        for name, estimate in measures(found, found.confidence, repeats).items()
    }


def _scaled(runs: Sequence[Evaluated], repeats: int) -> Scaled:
    reasons: dict[str, None] = {}
    after: dict[int, dict[str, Estimate]] = {}
    temperatures = {}
    for one in runs:
        try:
            found = rescale(one.questions, one.reported, repeats)
        except ValueError as error:
            reasons[str(error)] = None
            continue
        if found is None:
            reasons[no_validation(one.run.settings)] = None
        elif found.suites:
            temperatures[one.run.seed] = found.temperature, found.fitted_on
            after[one.run.seed] = {
                f"calibration/{suite}/{name}": estimate
                for suite, estimates in found.suites.items()
                for name, estimate in estimates.items()
            }
    if after:
        return Scaled(_cells(after), temperatures)
    return Scaled(absent="; ".join(reasons) or "no table of questions on disk")


def _cells(by_seed: Mapping[int, Mapping[str, Estimate]]) -> dict[str, Cell]:
    """Means over seeds with their intervals; of one seed, the interval over questions."""
    cells = {}
    for name in dict.fromkeys(name for found in by_seed.values() for name in found):
        there = {seed: found[name] for seed, found in by_seed.items() if name in found}
        there = {seed: estimate for seed, estimate in there.items() if math.isfinite(estimate.value)}
        if not there:
            continue
        cells[name] = make_cell({seed: estimate.value for seed, estimate in there.items()})
        (first, *_) = there.values()
        if len(by_seed) == 1 and math.isfinite(first.low):
            cells[name].questions = first.low, first.high
    return cells


def no_validation(settings: Mapping[str, object]) -> str:
    """Why a run has no validation questions, and what to set. ``settings``: flat."""
    if SETTING in settings:
        return f"no validation suite; {SETTING}=200, say, holds so many training questions out for one"
    return f"no validation suite; task {settings.get('task.name')} has no setting that makes one"


def scaled_label(temperatures: Sequence[tuple[Temperature, int]]) -> str:
    """``+ temperature (T = 1.43, fitted on validation, n = 200)``; from least to greatest over seeds."""
    values = sorted(fitted.value for fitted, _ in temperatures)
    counts = sorted(count for _, count in temperatures)
    bound = ", at its bound" if any(fitted.bounded for fitted, _ in temperatures) else ""
    return f"{SCALED} (T = {_span(values, '.2f')}{bound}, fitted on validation, n = {_span(counts, 'd')})"


def _span(values: Sequence[float], form: str) -> str:
    ends = list(dict.fromkeys(format(value, form) for value in (values[0], values[-1])))
    return "–".join(ends)


def _notes(rows: Sequence[Row]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.scaled is not None and row.scaled.absent:
            reasons.setdefault(row.scaled.absent, []).append(row.label)
    made = []
    if any(row.scaled is not None and row.scaled.cells for row in rows):
        made.append(
            f"{SCALED}: the row above it with confidences rescaled by one temperature a run, fitted on the run's own "
            "validation suite; =: scaling changes no answer. A vote share of 1 counts as 1 − 1/(2N); a question "
            "without an answer keeps confidence 0."
        )
    for reason, labels in reasons.items():
        whose = "" if len(labels) == len(rows) else f" of {', '.join(labels)}"
        made.append(f"Temperature-scaled rows{whose}: absent: {reason}.")
    return made


def reported_suites(rows: Sequence[Row]) -> dict[str, str]:
    """Suite -> its label, of all that a row has calibration of."""
    names = dict.fromkeys(name.split("/")[1] for row in rows for name in row.calibration)
    return {suite: suite_label(suite) for suite in names}
