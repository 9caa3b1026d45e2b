"""Runs grouped over seeds, with intervals and paired tests: the numbers behind ``carerl.compare``.

Runs belong to one group when recipe and settings agree, seed aside. A cell is the mean over the group's
seeds of a metric of the final evaluation, ± the half-width of its 95 % Student interval (n − 1 degrees); of a single
run, the interval over questions that its evaluation has, which says nothing about other seeds.
Stars mark paired differences (same seed) against the baseline row, two-sided, Holm-corrected over all
tests of the table, at .05, and only where at least five seeds pair. From two pairs on, a difference has a
one-sided 95 % Student bound on the side that speaks against the row. The side is the metric's, fixed before
the data are seen: chosen by the sign of the difference, the bound would not hold at its level.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carerl.calibration import Temperature, holm, paired_t, t_interval
from carerl.metrics.table import ece_metric, format_number, headline_columns, metric_line, paper_columns, shown_in
from carerl.report.compare.row_labels import differing, row_labels, short_labels
from carerl.runs.find import Run, read_intervals
from carerl.runs.questions import intervals
from carerl.runs.sweep_file import Cell as SweptCell
from carerl.runs.sweep_file import why_absent
from carerl.runs.tables import read_chosen
from carerl.tasks.base import VALIDATION

MIN_PAIRS = 5  # for a star
LEVEL = 0.05


@dataclass(slots=True)
class Cell:
    """One metric of one group. ``values`` maps a seed to its number; ``half`` is None below two seeds. ``questions``:
    the interval over questions, of a single run only.

    ``difference`` is the mean of row − baseline over the ``pairs`` seeds that both have, None below two.
    ``bound`` is its one-sided 95 % bound: a lower one where more is better, an upper one where less is, None
    where neither. ``p`` is the two-sided p-value, ``p_holm`` the corrected one; None where nothing was tested.
    """

    values: dict[int, float]
    mean: float
    half: float | None
    pairs: int = 0
    difference: float | None = None
    bound: float | None = None
    p: float | None = None
    p_holm: float | None = None
    questions: tuple[float, float] | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends, over seeds or over questions; None where there is neither."""
        return self.questions if self.half is None else (self.mean - self.half, self.mean + self.half)

    @property
    def starred(self) -> bool:
        return self.p_holm is not None and self.p_holm < LEVEL


@dataclass(slots=True)
class Row:
    """A group of runs; ``is_base`` marks the rows of the base models before training.

    ``gap_closed``: the share of the baseline's loss in ECE (:func:`gap_metric`) that the row does not have, see
    :func:`gap_closed`; None where it is not defined. ``asked``: the cells of a sweep that make the row, complete or
    not; 0 where no sweep says.
    """

    label: str
    short: str
    runs: list[Run]
    cells: dict[str, Cell]
    is_base: bool = False
    baseline: str = ""  # label of the row that it is compared with
    gap_closed: float | None = None
    asked: int = 0
    calibration: dict[str, Cell] = field(default_factory=dict)  # see calibration_rows
    scaled: Scaled | None = None

    @property
    def one_a_seed(self) -> list[Run]:
        """By seed; the base of one seed stands in several runs, of which the first is taken."""
        return [run for _, run in sorted({run.seed: run for run in reversed(self.runs)}.items())]


@dataclass(slots=True)
class Scaled:
    """A row after temperature scaling: its answers with other confidences. ``absent``: why there is none; then there
    are no cells. ``temperatures``: of each seed's run, with the number of validation questions that it was fitted on.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    temperatures: dict[int, tuple[Temperature, int]] = field(default_factory=dict)
    absent: str = ""


@dataclass(slots=True)
class Comparison:
    """``absent``: (words, reason) of the cells that a sweep was asked for and that have no result; ``left_out``: other
    runs that are not in the table."""

    rows: list[Row]
    columns: list[str]
    samples: int | None  # N of maj@N, when all runs agree
    left_out: list[tuple[str, str]]  # run, reason
    absent: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def paper(self) -> list[str]:
        """The columns of the paper's table; all of them in the tiny world."""
        return [name for name in paper_columns(self.columns) if name in self.columns] or self.columns


class ComparisonError(ValueError):
    """Something that the user can mend: nothing found, or a baseline that is not there."""


def compare_runs(runs: Sequence[Run], baseline: str = "", cells: Sequence[SweptCell] = ()) -> Comparison:
    """The table of the finished runs among ``runs``; ``cells`` are those that the runs' sweeps were asked for.

    ``baseline`` names a row by label, recipe or regularizer; empty means the rows whose regularizer is
    ``none``, for each row the one with its own algorithm, task and model.
    """
    reasons = [(cell, why_absent(cell.directory)) for cell in cells]
    missing = {cell.directory for cell, reason in reasons if reason}
    left_out = [(run.name, run.unfinished) for run in runs if run.unfinished and run.path not in missing]
    finished, repeated = _one_per_seed([run for run in runs if not run.unfinished])
    left_out += repeated
    columns = _compared({name for run in finished for name in (*run.base, *run.final)})
    if paper_columns(columns):  # a run of the tiny world has no place in the paper's table
        left_out += [
            (run.name, "has no text benchmark; compare it by itself") for run in finished if not _has(run, columns)
        ]
        finished = [run for run in finished if _has(run, columns)]
    if not finished:
        left_out += [(cell.name, reason) for cell, reason in reasons if reason]
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out)
        raise ComparisonError(f"no finished run among {len(runs)} found ({why})")
    groups = _grouped(finished)
    labels = row_labels(groups)
    short = short_labels(labels)
    rows = [
        Row(label, brief, group, _cells([(run.seed, run.final) for run in group], columns))
        for label, brief, group in zip(labels, short, groups, strict=True)
    ]
    _order(rows)
    _count_asked(rows, cells)
    bases = _base_rows(finished, columns)
    for row in (*bases, *rows):
        _over_questions(row)
    notes = [*_pair(rows, bases, baseline, gap_metric(columns)), *_floor_notes(finished)]
    rows = [*bases, *rows]
    columns = [name for name in columns if any(name in row.cells for row in rows)]
    samples = {run.config.get("evaluation", {}).get("samples") for run in finished}
    absent = [(" ".join(cell.words), reason) for cell, reason in reasons if reason]
    return Comparison(rows, columns, samples.pop() if len(samples) == 1 else None, left_out, absent, notes)


def _over_questions(row: Row) -> None:
    """Intervals over questions, of a row with one seed: those that its evaluation says, else those that follow from
    its questions."""
    if len(row.one_a_seed) != 1:
        return
    (run,) = row.one_a_seed
    chosen = read_chosen(run.path / "evaluations", row.is_base)
    if chosen is None:
        return
    record, questions = chosen
    own = read_intervals(record)
    metrics = {name: cell.mean for name, cell in row.cells.items() if name not in own}
    made = intervals(questions, metrics, run.config)
    for name, cell in row.cells.items():
        cell.questions = own.get(name) or made.get(name)


def _compared(names: Collection[str]) -> list[str]:
    """The headlines, without those of the validation questions: these are chosen by, and not reported. They stay where
    nothing else was asked."""
    reported = {name for name in names if f"/{VALIDATION}/" not in name}
    return headline_columns(reported) or headline_columns(names)


def gap_metric(columns: Sequence[str]) -> str | None:
    """What "ECE gap closed" is about: FACTS or a text benchmark; None where neither is there."""
    name = ece_metric(columns)
    return name if name in columns and "gap" in metric_line(name).shown else None


def _has(run: Run, columns: Sequence[str]) -> bool:
    return any(len(name.split("/")) == 3 and name in run.final for name in columns)


def _one_per_seed(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[str, str]]]:
    """The latest run of each group and seed: a repeated seed is no further evidence."""
    latest: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        key = (run.group_key, run.seed)
        if key not in latest or run.started > latest[key].started:
            latest[key] = run
    kept = {id(run) for run in latest.values()}
    repeated = [
        (run.name, f"same settings and seed as {latest[(run.group_key, run.seed)].name}, which is later")
        for run in runs
        if id(run) not in kept
    ]
    return [run for run in runs if id(run) in kept], repeated


def _grouped(runs: Sequence[Run]) -> list[list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group_key, []).append(run)
    return [sorted(group, key=lambda run: run.seed) for group in groups.values()]


def _order(rows: list[Row]) -> None:
    """The unregularised rows first; rows of one family together, by beta and alpha as numbers."""
    families = list(dict.fromkeys(row.runs[0].family_key for row in rows))

    def place(row: Row) -> tuple[Any, ...]:
        run = row.runs[0]
        return run.regularizer != "none", families.index(run.family_key), run.beta or 0.0, run.alpha or 0.0

    rows.sort(key=place)


def _count_asked(rows: Sequence[Row], cells: Sequence[SweptCell]) -> None:
    asked = Counter(cell.method for cell in cells)
    methods = {cell.directory: cell.method for cell in cells}
    for row in rows:
        row.asked = sum(asked[method] for method in {methods[run.path] for run in row.runs if run.path in methods})


def _cells(results: Sequence[tuple[int, Mapping[str, float]]], columns: Sequence[str]) -> dict[str, Cell]:
    """``results``: (seed, metrics), one per seed."""
    cells = {}
    for name in columns:
        values = {seed: float(metrics[name]) for seed, metrics in results if _is_number(metrics.get(name))}
        if values:
            cells[name] = make_cell(values)
    return cells


def make_cell(values: dict[int, float]) -> Cell:
    numbers = list(values.values())
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) < 2:
        return Cell(values, mean, None)
    interval = t_interval(numbers)
    return Cell(values, mean, float(interval.half_width))


def _base_rows(runs: Sequence[Run], columns: Sequence[str]) -> list[Row]:
    """The base models' rows: one per model, task and evaluation; each seed once (mean over its runs)."""
    models: dict[Any, list[Run]] = {}
    for run in runs:
        if run.base:
            models.setdefault(run.base_key, []).append(run)
    rows = []
    for group in models.values():
        per_seed: dict[int, list[Mapping[str, float]]] = {}
        for run in group:
            per_seed.setdefault(run.seed, []).append(run.base)
        pooled = [(seed, _mean_metrics(found, columns)) for seed, found in sorted(per_seed.items())]
        others = [other[0].base_settings for other in models.values()]
        label = " · ".join(["base", *differing(group[0].base_settings, others)])
        group.sort(key=lambda run: run.seed)
        rows.append(Row(label, "base" if len(models) == 1 else label, group, _cells(pooled, columns), is_base=True))
    return rows


def _mean_metrics(found: Sequence[Mapping[str, float]], columns: Sequence[str]) -> dict[str, float]:
    means = {}
    for name in columns:
        values = [float(metrics[name]) for metrics in found if _is_number(metrics.get(name))]
        if values:
            means[name] = math.fsum(values) / len(values)
    return means


def _pair(rows: Sequence[Row], bases: Sequence[Row], baseline: str, gap: str | None) -> list[str]:
    """Fill in differences, bounds and tests; returns what a reader should know about the stars."""
    tested: list[Cell] = []
    for row in rows:
        against = _baseline_of(row, rows, baseline)
        if against is None or against is row:
            continue
        row.baseline = against.label
        base = next((b for b in bases if b.runs[0].base_key == row.runs[0].base_key), None)
        if base and gap and all(gap in r.cells for r in (row, against, base)):
            row.gap_closed = gap_closed(*(r.cells[gap].values for r in (row, against, base)))
        for name, cell in row.cells.items():
            other = against.cells.get(name)
            seeds = [seed for seed in cell.values if other is not None and seed in other.values]
            cell.pairs = len(seeds)
            if other is None or len(seeds) < 2:
                continue
            mine, theirs = [cell.values[s] for s in seeds], [other.values[s] for s in seeds]
            test, better = paired_t(mine, theirs), metric_line(name).better
            cell.difference = test.difference
            if better:
                cell.bound = test.lower_bound if better > 0 else -paired_t(theirs, mine).lower_bound
            if len(seeds) >= MIN_PAIRS:
                cell.p = test.p_value
                tested.append(cell)
    for cell, corrected in zip(tested, holm([c.p for c in tested if c.p is not None]), strict=True):
        cell.p_holm = float(corrected)
    if len(rows) > 1 and not any(row.baseline for row in rows):
        return ["No stars: no row to compare with (none has regularizer none; name one with baseline=)."]
    if not tested:
        return [f"No stars: fewer than {MIN_PAIRS} seeds pair with the baseline."] if len(rows) > 1 else []
    names = list(dict.fromkeys(row.baseline for row in rows if row.baseline))
    return [
        f"* differs from {', '.join(names)}: paired over seeds (at least {MIN_PAIRS}), two-sided t, "
        f"Holm-corrected over the {len(tested)} tests of this table, p < {LEVEL:g}."
    ]


def gap_closed(row: Mapping[int, float], baseline: Mapping[int, float], base: Mapping[int, float]) -> float | None:
    """(baseline − row) / (baseline − base), each a mean over the seeds that all three have.

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


def _floor_notes(runs: Sequence[Run]) -> list[str]:
    """What a perfect model would have as ECE, from the runs' own final evaluations, by number of votes."""
    notes = []
    for metric in shown_in("floors"):
        floors: dict[Any, list[float]] = {}
        for run in runs:
            if _is_number(run.final.get(metric.name)):
                floors.setdefault(run.config.get("evaluation", {}).get("samples"), []).append(run.final[metric.name])
        scores = [
            f"about {format_number(math.fsum(found) / len(found))}" + (f" with {votes} votes" if votes else "")
            for votes, found in floors.items()
        ]
        if scores:
            notes.append(
                f"{metric.label_in('floors')}: a model that knows every probability scores {', '.join(scores)}."
            )
    return notes


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
    if len(matches) > 1:
        matches = [other for other in matches if other.runs[0].setting == run.setting]
    return matches[0] if len(matches) == 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
