"""Reads the questions of an evaluation as arrays, and makes intervals over them.

Some intervals stand in a run's own evaluation. The others are made here, from the rows of its table of
questions, as :mod:`carerl.tasks.estimates` says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carerl.calibration import Judged
from carerl.metrics.table import metric_line
from carerl.tasks import TASKS
from carerl.tasks.base import VALIDATION
from carerl.tasks.estimates import right_shares, same_votes

FloatArray = NDArray[np.float64]
# by estimator of a decision's confidence, the columns of a question's samples: the confidence, and whether it is right
DECISION_COLUMNS = {
    "answer_prob": ("decision_probs", "decision_rights"),
    "argmax": ("argmax_probs", "argmax_rights"),
}
SAME = 1e-6  # a metric and the figure made from the questions differ by less if both are of the same questions


@dataclass(frozen=True, slots=True)
class Asked:
    """Holds the questions of one suite, (Q,) each: the majority answer's share of the votes, whether that answer is
    right (or the probability that it is), and the share of right samples, None where they were not counted.
    ``answered``: the share of all samples that have an answer. ``votes``: the samples of a question, 0 where questions
    differ in it. ``decided``: by estimator, the suite's samples with the confidence in their decision, 0 without
    one; empty for a suite without decisions."""

    ids: tuple[str, ...]
    confidence: FloatArray
    right: FloatArray
    accuracy: FloatArray | None
    answered: float | None
    votes: int
    decided: Mapping[str, Judged] = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """True where every majority answer is known to be right or wrong, and not only with a probability."""
        return bool(((self.right == 0) | (self.right == 1)).all())

    @property
    def judged(self) -> Judged:
        return Judged(self.confidence, self.right, self.ids, np.arange(len(self.ids)), self.votes)


def asked(questions: Sequence[Mapping[str, Any]]) -> dict[str, Asked]:
    """Returns, by suite, the questions that have a majority to judge, in their order."""
    return {suite: _asked(rows) for suite, rows in by_suite(questions).items()}


def by_suite(questions: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for question in questions:
        if question.get("right") is not None and question.get("confidence") is not None:
            rows.setdefault(str(question.get("suite")), []).append(question)
    return rows


def reported(questions: Sequence[Mapping[str, Any]], diagrams: Collection[str]) -> dict[str, Asked]:
    """Returns the suites whose calibration is reported: those with a reliability diagram, or all where none has one.
    The validation questions never are: post-hoc calibration is fitted and checkpoints are chosen on them."""
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
        {name: judged for name, columns in DECISION_COLUMNS.items() if (judged := _decided(rows, *columns))},
    )


def _decided(rows: Sequence[Mapping[str, Any]], probs: str, rights: str) -> Judged | None:
    """Returns the samples of all questions that count, as :func:`carerl.tasks.scoring.with_decisions` kept them; None
    where it kept none."""
    if any(row.get(probs) is None for row in rows):
        return None
    items = [
        (str(row.get("example_id")), 0.0 if p is None else float(p), float(right))
        for row in rows
        for p, right in zip(row[probs], row[rights], strict=True)
        if right is not None
    ]
    questions = tuple(name for name, _, _ in items)
    confidence, correct = (np.array([item[place] for item in items]) for place in (1, 2))
    return Judged(confidence, correct, questions, np.arange(len(items)))


def intervals(
    questions: Sequence[Mapping[str, Any]], metrics: Mapping[str, float], settings: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Returns the 95 % intervals over questions that can be made of these questions. The line of each metric says how.
    ``settings``: the run's, nested.

    A metric whose value is not that of these questions gets none.
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
    """Returns the names by suite of the metrics that have plain names in a task. ``settings``: the run's, nested."""
    task = settings.get("task") or {}
    entry = TASKS.get(str(task.get("name")))
    return dict(entry.suite_names(task)) if entry else {}
