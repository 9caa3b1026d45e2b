"""The evaluations behind a comparison's rows, read back.

Evaluations are the last of each run; of a base model's row, the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carerl.report.compare.rows import Row
from carerl.runs.find import Run, read_intervals
from carerl.runs.questions import Asked, intervals, reported
from carerl.runs.tables import read_chosen
from carerl.tasks.base import VALIDATION


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Holds one run's evaluation of step ``step``. ``reliability``: the diagrams of what is reported. ``intervals``:
    those that the evaluation itself has."""

    run: Run
    step: int
    reliability: Mapping[str, Sequence[Mapping[str, float]]]
    questions: Sequence[Mapping[str, Any]]
    intervals: Mapping[str, tuple[float, float]]

    @property
    def reported(self) -> dict[str, Asked]:
        """See :func:`carerl.runs.questions.reported`."""
        return reported(self.questions, self.reliability)


def read_evaluated(rows: Sequence[Row]) -> dict[str, list[Evaluated]]:
    """Reads the rows' evaluations, by row's label, one a seed. Leaves out rows without an evaluation on disk."""
    found: dict[str, list[Evaluated]] = {}
    for row in rows:
        for run in row.one_a_seed:
            chosen = read_chosen(run.path / "evaluations", row.is_base)
            if chosen is not None:
                record, questions = chosen
                diagrams = record.get("reliability") or {}
                shown = {suite: bins for suite, bins in diagrams.items() if suite != VALIDATION} or diagrams
                one = Evaluated(run, record["step"], shown, questions, read_intervals(record))
                found.setdefault(row.label, []).append(one)
    return found


def with_question_intervals(row: Row, evaluated: Mapping[str, Sequence[Evaluated]]) -> Row:
    """Returns a row of one seed with intervals over questions: those that its evaluation has, and else those that
    follow from its questions. Returns rows of several seeds as they are."""
    runs = row.one_a_seed
    one = next((one for one in evaluated.get(row.label, ()) if one.run is runs[0]), None)
    if len(runs) != 1 or one is None:
        return row
    metrics = {name: cell.mean for name, cell in row.cells.items() if name not in one.intervals}
    made = intervals(one.questions, metrics, one.run.config)
    found = {**made, **one.intervals}
    return replace(row, cells={name: replace(cell, questions=found.get(name)) for name, cell in row.cells.items()})
