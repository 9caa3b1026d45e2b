"""The questions of an evaluation as arrays, and intervals over them.

A run's own evaluation says the intervals that it has; those of the tiny world, of errors of calibration and of F1 are
made here, from the rows of its table of questions. They hold for a single run: what another seed would show, they do
not know.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carerl.calibration import Estimate, Judged, bootstrap_interval, debiased_ece, ece, share_interval
from carerl.grading.votes import ABSTENTION
from carerl.tasks.base import VALIDATION

FloatArray = NDArray[np.float64]
FACTS, UNKNOWABLE = "facts", "unknowable"  # suites of the tiny world
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
    sizes = {int(row.get("samples") or 0) for row in rows}
    shares = [right_share(row) for row in rows]
    samples = sum(row.get("samples") or 0 for row in rows)
    answers = [row.get(name) for row in rows for name in ("correct", "wrong", "abstained")]
    return Asked(
        tuple(str(row.get("example_id")) for row in rows),
        np.array([float(row["confidence"]) for row in rows]),
        np.array([float(row["right"]) for row in rows]),
        None if None in shares else np.array(shares, dtype=np.float64),
        None if None in answers or not samples else sum(n for n in answers if n is not None) / samples,
        sizes.pop() if len(sizes) == 1 else 0,
    )


def right_share(row: Mapping[str, Any]) -> float | None:
    """Of a question's samples, the share that is right: by ``rights`` where an evaluation has them (abstaining is right
    where nobody can know), else by the outcome."""
    if row.get("rights"):
        return float(sum(row["rights"]) / len(row["rights"]))
    return row["correct"] / row["samples"] if row.get("samples") and row.get("correct") is not None else None


def primary_suite(settings: Mapping[str, Any]) -> str:
    """The suite of the tiny world whose metrics have plain names; ``settings`` nested. Text tasks name all in full."""
    return f"q{(settings.get('task') or {}).get('train_k')}"


def intervals(
    questions: Sequence[Mapping[str, Any]], metrics: Mapping[str, float], primary: str
) -> dict[str, tuple[float, float]]:
    """95 % intervals over questions of those of ``metrics`` that the questions determine. ``primary``: the suite that
    ``eval/accuracy`` and the like are of.

    Shares: Wilson's. F1: BCa bootstrap over the questions of both kinds. An ECE: that of the debiased estimate, as no
    interval about the plug-in covers; the figure itself can lie above it. A metric that is not that of these questions
    has none.
    """
    rows = by_suite(questions)
    found = {}
    for name, value in metrics.items():
        estimate = _estimate(name, rows, primary)
        if estimate is not None and abs(estimate.value - value) < SAME and estimate.low == estimate.low:
            found[name] = (estimate.low, estimate.high)
    return found


def _estimate(name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], primary: str) -> Estimate | None:
    """The metric's value over the questions with its interval; None for a metric of something else."""
    parts = name.split("/")
    suite, kind = (parts[1], parts[2]) if len(parts) == 3 else (primary, parts[-1])
    if kind == "unknowable_f1":
        return f1_interval([*rows.get(FACTS, ()), *rows.get(UNKNOWABLE, ())])
    if kind == "facts_ece":
        suite, kind = FACTS, "ece"
    if suite not in rows:
        return None
    mine = _asked(rows[suite])
    if kind == "accuracy" and mine.accuracy is not None:
        return share_interval(mine.accuracy)
    if kind == "maj":
        return share_interval(mine.right)
    if kind in ("ece", "question_ece"):
        debiased = debiased_ece(mine.confidence, mine.right)
        return Estimate(ece(mine.confidence, mine.right), debiased.low, debiased.high)
    if kind == "hallucination" and mine.votes:
        return share_interval([(row.get("wrong") or 0) / mine.votes for row in rows[suite]])
    return f1_interval(rows[suite]) if kind == "f1" else None


def f1_interval(rows: Sequence[Mapping[str, Any]]) -> Estimate:
    """F1 of calling a question unanswerable, by a majority that abstains. Which questions nobody can answer stands in
    ``answerable``, or in the name of the tiny world's suite. NaN where there is nothing to find and nothing was
    claimed."""
    called = np.array([row.get("majority") == ABSTENTION for row in rows])
    truth = np.array([not row["answerable"] if "answerable" in row else row["suite"] == UNKNOWABLE for row in rows])

    def f1(weights_RN: FloatArray) -> FloatArray:
        hits, claims, kinds = (weights_RN @ flag.astype(float) for flag in (called & truth, called, truth))
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * hits / (claims + kinds))

    if not (called.any() or truth.any()):
        return Estimate(float("nan"))
    value = float(f1(np.ones((1, len(rows))))[0])
    return bootstrap_interval(f1, value, None, len(rows))
