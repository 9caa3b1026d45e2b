"""One comparison: rows over seeds, their paired tests, calibration and differences over questions.

:meth:`Comparison.of` makes all of it at once; nothing is filled in later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carerl.metrics.table import format_number, headline_columns, paper_columns, shown_in
from carerl.report.compare.calibration import calibration_notes, with_calibration
from carerl.report.compare.differences import Difference, question_differences
from carerl.report.compare.evaluated import Evaluated, read_evaluated, with_question_intervals
from carerl.report.compare.pairs import gap_metric, pair
from carerl.report.compare.rows import ComparisonError, Row, base_rows, group_rows, is_number, mean_of
from carerl.runs.find import Run
from carerl.runs.sweep_file import Cell as SweptCell
from carerl.runs.sweep_file import why_absent
from carerl.tasks.base import VALIDATION


@dataclass(frozen=True, slots=True)
class Comparison:
    """Holds everything that a comparison shows.

    ``samples``: N of maj@N, where all runs agree. ``left_out``: (run, reason) of the runs that are not in the table.
    ``absent``: (words, reason) of the cells that a sweep was asked for and that have no result. ``evaluated``: the
    evaluations behind the rows, by label. ``differences``: of single runs, over the questions that both were asked.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    samples: int | None = None
    left_out: Sequence[tuple[str, str]] = ()
    absent: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    evaluated: Mapping[str, Sequence[Evaluated]] = field(default_factory=dict)
    differences: Sequence[Difference] = ()

    @property
    def paper(self) -> Sequence[str]:
        """The columns of the paper's table; all of them in the tiny world."""
        return tuple(name for name in paper_columns(self.columns) if name in self.columns) or self.columns

    @classmethod
    def of(cls, runs: Sequence[Run], baseline: str = "", cells: Sequence[SweptCell] = ()) -> Comparison:
        """Compares the finished runs among ``runs``; ``cells`` are those that the runs' sweeps were asked for.

        ``baseline``: see :func:`carerl.report.compare.pairs.pair`. Raises ComparisonError if no run has finished, or if
        the baseline is not among the rows.
        """
        reasons = [(cell, reason) for cell in cells if (reason := why_absent(cell.directory))]
        finished, columns, left_out = _chosen(runs, reasons)
        bases = base_rows(finished, columns)
        rows = group_rows(finished, columns, cells)
        evaluated = read_evaluated([*bases, *rows])
        bases, rows = ([with_question_intervals(row, evaluated) for row in some] for some in (bases, rows))
        rows, notes = pair(rows, bases, baseline, gap_metric(columns))
        rows = [with_calibration(row, evaluated) for row in (*bases, *rows)]
        samples = {run.config.get("evaluation", {}).get("samples") for run in finished}
        return cls(
            rows=tuple(rows),
            columns=tuple(name for name in columns if any(name in row.cells for row in rows)),
            samples=samples.pop() if len(samples) == 1 else None,
            left_out=tuple(left_out),
            absent=tuple((" ".join(cell.words), reason) for cell, reason in reasons),
            notes=(*_rehearsal_notes(finished), *notes, *_floor_notes(finished), *calibration_notes(rows)),
            evaluated=evaluated,
            differences=tuple(question_differences(rows, evaluated)),
        )


def _chosen(
    runs: Sequence[Run], reasons: Sequence[tuple[SweptCell, str]]
) -> tuple[list[Run], list[str], list[tuple[str, str]]]:
    """Returns the runs to compare, the metrics to compare them by, and the runs left out with the reason.

    ``reasons``: the cells of sweeps without a result, which are listed apart. Raises ComparisonError without a run.
    """
    missing = {cell.directory for cell, _ in reasons}
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
        left_out += [(cell.name, reason) for cell, reason in reasons]
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out)
        raise ComparisonError(f"no finished run among {len(runs)} found ({why})")
    return finished, columns, left_out


def _compared(names: Collection[str]) -> list[str]:
    """Returns the headline metrics. Those of the validation questions, which choose checkpoints, are left out unless
    nothing else was asked."""
    reported = {name for name in names if f"/{VALIDATION}/" not in name}
    return headline_columns(reported) or headline_columns(names)


def _has(run: Run, columns: Sequence[str]) -> bool:
    return any(len(name.split("/")) == 3 and name in run.final for name in columns)


def _one_per_seed(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[str, str]]]:
    """Returns the latest run of each group and seed, and the others with the reason: a repeated seed is no further
    evidence."""
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


def _rehearsal_notes(runs: Sequence[Run]) -> list[str]:
    """Says of rehearsals that they are no results."""
    rehearsed = sum(bool(run.config.get("rehearse")) for run in runs)
    if not rehearsed:
        return []
    which = "All of these runs are" if rehearsed == len(runs) else f"{rehearsed} of these {len(runs)} runs are"
    return [f"{which} REHEARSALS, of drawn weights and outcomes by the toss of a coin: no number here is a result."]


def _floor_notes(runs: Sequence[Run]) -> list[str]:
    """Says which ECE a perfect model would have, by number of votes, from the runs' own final evaluations."""
    notes = []
    for metric in shown_in("floors"):
        floors: dict[Any, list[float]] = {}
        for run in runs:
            if is_number(run.final.get(metric.name)):
                floors.setdefault(run.config.get("evaluation", {}).get("samples"), []).append(run.final[metric.name])
        scores = [
            f"about {format_number(mean_of(found))}" + (f" with {votes} votes" if votes else "")
            for votes, found in floors.items()
        ]
        if scores:
            notes.append(
                f"{metric.label_in('floors')}: a model that knows every probability scores {', '.join(scores)}."
            )
    return notes
