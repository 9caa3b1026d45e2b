"""The evaluations behind a comparison's rows, read back.

Evaluations are the last of each run; of a base model's row, the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carerl.report.compare.rows import Comparison
from carerl.runs.find import Run
from carerl.runs.questions import Asked, reported
from carerl.runs.tables import read_chosen
from carerl.tasks.base import VALIDATION


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One run's evaluation of step ``step``, read. ``reliability``: the diagrams of what is reported."""

    run: Run
    step: int
    reliability: Mapping[str, Sequence[Mapping[str, float]]]
    questions: Sequence[Mapping[str, Any]]

    @property
    def reported(self) -> dict[str, Asked]:
        """See :func:`carerl.runs.questions.reported`."""
        return reported(self.questions, self.reliability)


def read_evaluated(comparison: Comparison) -> dict[str, list[Evaluated]]:
    """By row's label, one a seed. Rows whose runs have no evaluation on disk are left out."""
    found: dict[str, list[Evaluated]] = {}
    for row in comparison.rows:
        for run in row.one_a_seed:
            chosen = read_chosen(run.path / "evaluations", row.is_base)
            if chosen is not None:
                record, questions = chosen
                diagrams = record.get("reliability") or {}
                shown = {suite: bins for suite, bins in diagrams.items() if suite != VALIDATION} or diagrams
                one = Evaluated(run, record["step"], shown, questions)
                found.setdefault(row.label, []).append(one)
    return found
