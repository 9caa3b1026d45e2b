"""Calibration of every row of a comparison, benchmark by benchmark, before and after temperature scaling.

See :mod:`carerl.report.temperature` for the scaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from carerl.calibration import REPEATS, Estimate
from carerl.metrics.table import suite_label
from carerl.report.compare.evaluated import Evaluated
from carerl.report.compare.rows import Cell, Row, Scaled, make_cell
from carerl.report.temperature import SCALED, measures, no_validation, rescale
from carerl.runs.questions import suite_names


def with_calibration(row: Row, evaluated: Mapping[str, Sequence[Evaluated]]) -> Row:
    """Returns the row with ``calibration`` and ``scaled``, under names such as ``calibration/gsm8k/ece``."""
    runs = evaluated.get(row.label, ())
    repeats = REPEATS if len(runs) == 1 else 2
    before = _cells({one.run.seed: _before(one, repeats) for one in runs})
    return replace(row, calibration=before, scaled=_scaled(runs, repeats, suite_names(row.runs[0].config)))


def _before(one: Evaluated, repeats: int) -> dict[str, Estimate]:
    return {
        f"calibration/{suite}/{name}": estimate
        for suite, found in one.reported.items()
        for name, estimate in measures(found, found.confidence, repeats).items()
    }


def _scaled(runs: Sequence[Evaluated], repeats: int, names: Mapping[str, str]) -> Scaled:
    """Returns the runs' cells after scaling. ``names``: the name of a suite's metric for one of the main table."""
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
        cells = _cells(after)
        for plain, name in names.items():  # as the main table calls them
            if cell := cells.get(name):
                cells[plain] = cell
        return Scaled(cells, temperatures)
    return Scaled(absent="; ".join(reasons) or "no table of questions on disk")


def _cells(by_seed: Mapping[int, Mapping[str, Estimate]]) -> dict[str, Cell]:
    """Returns means over seeds with their intervals; a single seed has the interval over questions."""
    cells = {}
    for name in dict.fromkeys(name for found in by_seed.values() for name in found):
        there = {seed: found[name] for seed, found in by_seed.items() if name in found}
        there = {seed: estimate for seed, estimate in there.items() if math.isfinite(estimate.value)}
        if not there:
            continue
        (first, *_) = there.values()
        ends = (first.low, first.high) if len(by_seed) == 1 and math.isfinite(first.low) else None
        cells[name] = make_cell({seed: estimate.value for seed, estimate in there.items()}, ends)
    return cells


def calibration_notes(rows: Sequence[Row]) -> list[str]:
    """Returns what scaled rows are, and why rows are not scaled."""
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
    """Returns the label of each suite that a row has calibration of."""
    names = dict.fromkeys(name.split("/")[1] for row in rows for name in row.calibration)
    return {suite: suite_label(suite) for suite in names}
