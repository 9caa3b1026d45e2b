"""Paired tests between the rows of a comparison and their baselines, seed by seed.

Stars mark paired differences (same seed) from the baseline row, two-sided, Holm-corrected over all tests of the table,
at .05, and only where at least five seeds pair. From two pairs on, a difference has a one-sided 95 % Student bound on
the side that speaks against the row. The side is the metric's, fixed before the data are seen: chosen by the sign of
the difference, the bound would not hold at its level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from carerl.calibration import holm, paired_t
from carerl.metrics.table import ece_metric, metric_line
from carerl.report.compare.rows import LEVEL, Cell, ComparisonError, Row
from carerl.runs.find import Run

MIN_PAIRS = 5  # for a star
ADDED = ("decision", "anchor")  # sections that add a term beside the regularizer: a plain baseline has none of them


def pair(rows: Sequence[Row], bases: Sequence[Row], baseline: str, gap: str | None) -> tuple[list[Row], list[str]]:
    """Returns the rows with baselines, differences, bounds and tests, and notes on the stars.

    ``baseline`` names a row by label, recipe or regularizer; empty means the row whose regularizer is ``none`` and that
    has neither anchors nor trained decisions, for each row the one with its own algorithm, task and model, and of
    several the one that differs in the fewest settings. ``gap``: see :func:`gap_metric`.
    """
    made = [_paired(row, _baseline_of(row, rows, baseline), bases, gap) for row in rows]
    tests = [(i, name, cell.p) for i, row in enumerate(made) for name, cell in row.cells.items() if cell.p is not None]
    cells = [dict(row.cells) for row in made]
    for (i, name, _), corrected in zip(tests, holm([p for _, _, p in tests]), strict=True):
        cells[i][name] = replace(cells[i][name], p_holm=float(corrected))
    made = [replace(row, cells=own) for row, own in zip(made, cells, strict=True)]
    return made, _notes(made, len(tests))


def _paired(row: Row, against: Row | None, bases: Sequence[Row], gap: str | None) -> Row:
    if against is None or against is row:
        return row
    base = next((b for b in bases if b.runs[0].base_key == row.runs[0].base_key), None)
    closed = None
    if base and gap and all(gap in r.cells for r in (row, against, base)):
        before = base.cells[gap].values
        if not base.runs[0].settings.get("model.base_recipe"):  # one model for all seeds
            before = dict.fromkeys(row.cells[gap].values, base.cells[gap].mean)
        closed = gap_closed(row.cells[gap].values, against.cells[gap].values, before)
    cells = {name: _difference(name, cell, against.cells.get(name)) for name, cell in row.cells.items()}
    return replace(row, baseline=against.label, gap_closed=closed, cells=cells)


def _difference(name: str, cell: Cell, other: Cell | None) -> Cell:
    """Returns the cell with its paired difference, bound and p-value, as far as enough seeds pair."""
    seeds = [seed for seed in cell.values if other is not None and seed in other.values]
    if other is None or len(seeds) < 2:
        return replace(cell, pairs=len(seeds))
    mine, theirs = [cell.values[s] for s in seeds], [other.values[s] for s in seeds]
    test, better, bound = paired_t(mine, theirs), metric_line(name).better, None
    if better:
        bound = test.lower_bound if better > 0 else -paired_t(theirs, mine).lower_bound
    p = test.p_value if len(seeds) >= MIN_PAIRS else None
    return replace(cell, pairs=len(seeds), difference=test.difference, bound=bound, p=p)


def _notes(rows: Sequence[Row], tests: int) -> list[str]:
    if len(rows) > 1 and not any(row.baseline for row in rows):
        return ["No stars: no row to compare with (none has regularizer none; name one with baseline=)."]
    if not tests:
        return [f"No stars: fewer than {MIN_PAIRS} seeds pair with the baseline."] if len(rows) > 1 else []
    names = list(dict.fromkeys(row.baseline for row in rows if row.baseline))
    return [
        f"* differs from {', '.join(names)}: paired over seeds (at least {MIN_PAIRS}), two-sided t, "
        f"Holm-corrected over the {tests} tests of this table, p < {LEVEL:g}."
    ]


def gap_metric(columns: Sequence[str]) -> str | None:
    """Returns the metric of "ECE gap closed": the ECE of FACTS or of a text benchmark; None without either."""
    name = ece_metric(columns)
    return name if name in columns and "gap" in metric_line(name).shown else None


def gap_closed(row: Mapping[int, float], baseline: Mapping[int, float], base: Mapping[int, float]) -> float | None:
    """Returns (baseline − row) / (baseline − base), each a mean over the seeds that all three have.

    The arguments map a seed to an error. 1: as good as before training; 0: as bad as the baseline; outside
    [0, 1] beyond either. None below two seeds, or if the baseline is no worse than the base.

    >>> gap_closed({1: 0.25, 2: 0.25}, {1: 0.5, 2: 0.5}, {1: 0.0, 2: 0.0})
    0.5
    """
    seeds = [seed for seed in row if seed in baseline and seed in base]
    lost = math.fsum(baseline[seed] - base[seed] for seed in seeds)
    if len(seeds) < 2 or lost <= 0:
        return None
    return math.fsum(baseline[seed] - row[seed] for seed in seeds) / lost


def _baseline_of(row: Row, rows: Sequence[Row], baseline: str) -> Row | None:
    run = row.runs[0]
    if baseline:
        for matches in (
            [other for other in rows if other.label == baseline],
            [other for other in rows if other.runs[0].recipe == baseline],
            [other for other in rows if other.runs[0].regularizer == baseline],
        ):
            if matches:
                break
        else:
            known = ", ".join(other.label for other in rows)
            raise ComparisonError(f"baseline={baseline}: no such row; the rows are {known}")
    else:
        matches = [other for other in rows if other.runs[0].regularizer == "none"]
        plain = [other for other in matches if not any(_is_set(other.runs[0], part) for part in ADDED)]
        matches = plain or matches
    if len(matches) > 1:
        matches = [other for other in matches if other.runs[0].setting == run.setting]
    nearest = min((_distance(run, other.runs[0]) for other in matches), default=0)
    matches = [other for other in matches if _distance(run, other.runs[0]) == nearest]
    return matches[0] if len(matches) == 1 else None


def _is_set(run: Run, section: str) -> bool:
    return bool(run.settings.get(f"{section}.name", "none") != "none")


def _distance(run: Run, other: Run) -> int:
    """Counts the settings in which two runs differ."""
    return sum(run.settings.get(key) != other.settings.get(key) for key in {*run.settings, *other.settings})
