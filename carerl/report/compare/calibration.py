"""Calibration of every row of a comparison, benchmark by benchmark, before and after post-hoc calibration.

See :mod:`carerl.report.posthoc` for the scalers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from carerl.calibration import REPEATS, Estimate
from carerl.report.compare.evaluated import Evaluated
from carerl.report.compare.rows import Cell, Row, Scaled, make_cell
from carerl.report.posthoc import (
    ESTIMATORS,
    SCALERS,
    Rescaled,
    kind_of,
    no_validation,
    plain_measures,
    rescale,
)
from carerl.runs.questions import suite_names

SIGNS = ", ".join(scaler.sign for scaler in SCALERS)


def with_calibration(row: Row, evaluated: Mapping[str, Sequence[Evaluated]]) -> Row:
    """Returns the row with ``calibration`` and ``scaled``, under names such as ``calibration/gsm8k/ece``."""
    runs = evaluated.get(row.label, ())
    repeats = REPEATS if len(runs) == 1 else 2
    before = _cells({one.run.seed: _before(one, repeats) for one in runs})
    scaled, reason = _scaled(runs, repeats, suite_names(row.runs[0].config))
    return replace(row, calibration=before, scaled=scaled, unscaled=reason)


def _before(one: Evaluated, repeats: int) -> dict[str, Estimate]:
    return {
        f"calibration/{suite}/{kind_of(estimator, name)}": estimate
        for suite, found in one.reported.items()
        for estimator in ESTIMATORS
        for name, estimate in plain_measures(found, estimator, repeats).items()
    }


def _scaled(runs: Sequence[Evaluated], repeats: int, names: Mapping[str, str]) -> tuple[tuple[Scaled, ...], str]:
    """Returns the runs' cells after every scaler, or none and the reason. ``names``: the name of a suite's metric for
    one of the main table."""
    reasons: dict[str, None] = {}
    after: dict[tuple[str, str], dict[int, Rescaled]] = {}
    for one in runs:
        try:
            found = rescale(one.questions, one.reported, repeats)
        except ValueError as error:
            reasons[str(error)] = None
            continue
        if found is None:
            reasons[no_validation(one.run.settings)] = None
        for rescaled in found or ():
            key = rescaled.fit.estimator, rescaled.fit.scaler.name
            after.setdefault(key, {})[one.run.seed] = rescaled
    if after:
        return tuple(_one_scaled(by_seed, names) for by_seed in after.values()), ""
    return (), "; ".join(reasons) or "no table of questions on disk"


def _one_scaled(by_seed: Mapping[int, Rescaled], names: Mapping[str, str]) -> Scaled:
    cells = _cells(
        {
            seed: {
                f"calibration/{suite}/{kind_of(one.fit.estimator, name)}": estimate
                for suite, estimates in one.suites.items()
                for name, estimate in estimates.items()
            }
            for seed, one in by_seed.items()
        }
    )
    for plain, name in names.items():  # as the main table calls them
        if cell := cells.get(name):
            cells[plain] = cell
    return Scaled({seed: one.fit for seed, one in by_seed.items()}, cells)


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
        if row.unscaled:
            reasons.setdefault(row.unscaled, []).append(row.label)
    made = []
    if any(row.scaled for row in rows):
        ways = ", ".join(f"{scaler.sign} by {scaler.means}" for scaler in SCALERS)
        made.append(
            f"The row above it with its confidences mapped, {ways}. The map is fitted on n questions of the run's own "
            "validation suite; few overfit. =: it changes nothing here. A temperature takes a vote share of 1 for "
            "1 − 1/(2N). A question without an answer keeps confidence 0."
        )
    for reason, labels in reasons.items():
        whose = "" if len(labels) == len(rows) else f" of {', '.join(labels)}"
        made.append(f"Rows {SIGNS}{whose}: absent: {reason}.")
    return made


def reported_suites(rows: Sequence[Row]) -> list[str]:
    """Returns the suites that a row has calibration of."""
    return list(dict.fromkeys(name.split("/")[1] for row in rows for name in row.calibration))
