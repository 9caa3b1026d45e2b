"""The questions of an evaluation as arrays, and intervals over them.

A run's own evaluation says the intervals that it has. The others are made here, from the rows of its table of
questions, as :mod:`carerl.tasks.estimates` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carerl.calibration import Judged
from carerl.metrics.table import metric_line
from carerl.tasks import TASKS
from carerl.tasks.base import VALIDATION
from carerl.tasks.estimates import right_shares, same_votes

FloatArray = NDArray[np.float64]
SAME = 1e-6  # a metric and the figure made from the questions differ by less where both are of the same questions


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions of one suite, (Q,) each: the majority answer's share of the votes, whether that answer is right (or
    the probability that it is), and the share of the samples that are right, None where nobody counted. ``answered``:
    of all samples, the share with an answer; ``votes``: the samples of a question, 0 where questions differ in it."""

    ids: tuple[str, ...]
    confidence: FloatArray
    right: FloatArray
    accuracy: FloatArray | None
    answered: float | None
    votes: int

    @property
    def binary(self) -> bool:
        """Whether right is known, and not a probability."""
        return bool(((self.right == 0) | (self.right == 1)).all())

    @property
    def judged(self) -> Judged:
        return Judged(self.confidence, self.right, self.ids, np.arange(len(self.ids)), self.votes)


def asked(questions: Sequence[Mapping[str, Any]]) -> dict[str, Asked]:
    """By suite, the questions that have a majority to be judged, in their order."""
    return {suite: _asked(rows) for suite, rows in by_suite(questions).items()}


def by_suite(questions: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for question in questions:
        if question.get("right") is not None and question.get("confidence") is not None:
            rows.setdefault(str(question.get("suite")), []).append(question)
    return rows


def reported(questions: Sequence[Mapping[str, Any]], diagrams: Collection[str]) -> dict[str, Asked]:
    """The suites whose calibration is reported: those with a reliability diagram (all of them, where none has), but
    never the validation questions, on which temperatures are fitted and checkpoints chosen."""
    found = asked(questions)
    named = [suite for suite in found if suite in diagrams] or list(found)
    return {suite: found[suite] for suite in named if suite != VALIDATION}


def _asked(rows: Sequence[Mapping[str, Any]]) -> Asked:
    samples = sum(row.get("samples") or 0 for row in rows)
    answers = [row.get(name) for row in rows for name in ("correct", "wrong", "abstained")]
    return Asked(
        tuple(str(row.get("example_id")) for row in rows),
        np.array([float(row["confidence"]) for row in rows]),
        np.array([float(row["right"]) for row in rows]),
        right_shares(rows),
        None if None in answers or not samples else sum(n for n in answers if n is not None) / samples,
        same_votes(rows),
    )


def intervals(
    questions: Sequence[Mapping[str, Any]], metrics: Mapping[str, float], settings: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Returns 95 % intervals over questions of those of ``metrics`` that the questions determine, each made as its line
    in the table of metrics says. ``settings``: the run's, nested.

    A metric whose value is not that of these questions has none.
    """
    rows = by_suite(questions)
    every = [row for found in rows.values() for row in found]
    plain = suite_names(settings)
    found = {}
    for name, value in metrics.items():
        line = metric_line(plain.get(name, name))
        asked_of = rows.get(line.suite) if line.suite else every
        if line.estimate is None or not asked_of:
            continue
        estimate = line.estimate(asked_of)
        if estimate is not None and abs(estimate.value - value) < SAME and estimate.low == estimate.low:
            found[name] = (estimate.low, estimate.high)
    return found


def suite_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns, for the metrics of a run's task that have plain names, their names by suite. ``settings``: the run's,
    nested."""
    task = settings.get("task") or {}
    entry = TASKS.get(str(task.get("name")))
    return dict(entry.suite_names(task)) if entry else {}
