"""Runs against the tokens that they generated or trained: the numbers behind a comparison at equal cost.

Tokens count up to and including the step that a value belongs to. ``rollout/generated_tokens`` is everything the
engines generated for training, with the groups that dynamic sampling threw away. ``train/tokens`` is every response
token that was trained, those of anchors included. A run without either has ``rollout/tokens``, what it learned from.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from carerl.report.compare.frontier import ACCURACY
from carerl.report.compare.rows import Cell, Row, make_cell, mean_of
from carerl.report.smoothing import smooth
from carerl.runs.find import Run
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_question_counts

LEARNED = "rollout/tokens"
ROLLOUT_ACCURACY = "rollout/accuracy"


@dataclass(frozen=True, slots=True)
class Counted:
    """Says which tokens are counted. ``metric``: of each step; ``missing``: what a reader must know where it was not
    logged."""

    name: str
    metric: str
    note: str
    missing: str


GENERATED = Counted(
    "generated",
    "rollout/generated_tokens",
    "Tokens that the engines generated for training, refills of dynamic sampling included.",
    "Some runs did not log them (rollout/generated_tokens): there only the tokens learned from are counted "
    "(rollout/tokens), which is less where groups were dropped.",
)
TRAINED = Counted(
    "trained",
    "train/tokens",
    "Response tokens that were trained, those of anchors included: as many tokens are about as much work of the "
    "learner, where lengths are alike.",
    "Some runs did not log them (train/tokens): there the tokens of rollouts are counted (rollout/tokens), once.",
)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Holds the course of one run. ``evaluations``: (tokens so far, metrics), in order, of the evaluations that asked
    as many questions as the largest, since an ECE over fewer is higher. ``rollouts``: (tokens so far, accuracy of the
    step's rollouts). ``learned_only``: some step logged only the tokens that it learned from. ``total``: tokens of the
    whole run."""

    evaluations: Sequence[tuple[float, Mapping[str, float]]]
    rollouts: Sequence[tuple[float, float]]
    learned_only: bool
    total: float = 0.0

    @property
    def between(self) -> int:
        """Evaluations that are neither the first nor the last."""
        return max(0, len(self.evaluations) - 2)

    def at(self, metric: str, tokens: float) -> float | None:
        """Returns the metric after so many tokens: that of the evaluation there, or linear between its neighbours. None
        beyond the run's ends, and between them if it was evaluated only there: a run is no straight line."""
        found = [(x, metrics[metric]) for x, metrics in self.evaluations if metric in metrics]
        for x, value in found:
            if x == tokens:
                return value
        for (x0, y0), (x1, y1) in pairwise(found):
            if x0 < tokens < x1 and len(found) > 2:
                return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)
        return None


@dataclass(frozen=True, slots=True)
class Band:
    """Holds a row's course: at each place (mean tokens or step, a metric over seeds)."""

    row: Row
    points: Sequence[tuple[float, Cell]]


@dataclass(frozen=True, slots=True)
class AtTokens:
    """Holds a row's metrics after a number of tokens; without any, ``absent`` says why."""

    row: Row
    cells: Mapping[str, Cell]
    absent: str = ""


def trajectory(
    rows: Sequence[Mapping[str, float]], fewer: Collection[int] = (), counted: Counted = GENERATED
) -> Trajectory:
    """Makes a course of the rows of metrics.jsonl. ``fewer``: steps whose evaluation asked fewer questions."""
    spent: dict[int, float] = {}
    learned_only = False
    for row in rows:
        if counted.metric in row or LEARNED in row:
            learned_only |= counted.metric not in row
            spent[int(row["step"])] = row.get(counted.metric, row.get(LEARNED, 0.0))

    steps = sorted(spent)
    sums = [0.0, *accumulate(spent[step] for step in steps)]

    def so_far(step: float) -> float:
        return sums[bisect_right(steps, step)]

    by_step = sorted(rows, key=lambda row: row["step"])
    return Trajectory(
        [(so_far(row["step"]), dict(row)) for row in by_step if ACCURACY in row and row["step"] not in fewer]
        if spent
        else [],
        [(so_far(row["step"]), row[ROLLOUT_ACCURACY]) for row in by_step if ROLLOUT_ACCURACY in row] if spent else [],
        learned_only,
        sums[-1],
    )


def read_trajectories(rows: Sequence[Row], counted: Counted = GENERATED) -> dict[str, dict[int, Trajectory]]:
    """Reads the courses of the runs that logged tokens, by row and seed."""
    found: dict[str, dict[int, Trajectory]] = {}
    for row in rows:
        if not row.is_base:
            read = {run.seed: _read(run, counted) for run in row.runs}
            found[row.label] = {seed: made for seed, made in read.items() if made.evaluations or made.rollouts}
    return found


def _read(run: Run, counted: Counted) -> Trajectory:
    counts = read_question_counts(run.path / "evaluations")
    fewer = {step for step, count in counts.items() if count < max(counts.values())}
    return trajectory(read_metrics(run.path / "metrics.jsonl"), fewer, counted)


def evaluated_between(found: Mapping[str, Mapping[int, Trajectory]]) -> bool:
    """Tells whether every run was evaluated between its ends, so that evaluations make a course."""
    runs = [made for row in found.values() for made in row.values()]
    return bool(runs) and all(made.between for made in runs)


def bands(rows: Sequence[Row], found: Mapping[str, Mapping[int, Trajectory]], metric: str) -> list[Band]:
    """Returns every row's course of a metric of evaluations, or of :data:`ROLLOUT_ACCURACY`, smoothed as in a run's
    report."""
    made = []
    for row in rows:
        courses = {seed: _course(one, metric) for seed, one in found.get(row.label, {}).items()}
        courses = {seed: course for seed, course in courses.items() if course}
        if courses:
            # seeds of one row have the same steps; one that was logged for fewer ends there
            length = max(map(len, courses.values()))
            made.append(Band(row, [_place(courses, i) for i in range(length)]))
    return made


def _course(one: Trajectory, metric: str) -> list[tuple[float, float]]:
    if metric == ROLLOUT_ACCURACY:
        return list(zip([x for x, _ in one.rollouts], smooth(np.asarray([y for _, y in one.rollouts])), strict=True))
    return [(x, metrics[metric]) for x, metrics in one.evaluations if metric in metrics]


def _place(courses: Mapping[int, Sequence[tuple[float, float]]], i: int) -> tuple[float, Cell]:
    there = {seed: course[i] for seed, course in courses.items() if i < len(course)}
    return mean_of(x for x, _ in there.values()), make_cell({s: y for s, (_, y) in there.items()})


def common_tokens(found: Mapping[str, Mapping[int, Trajectory]]) -> float | None:
    """Returns the greatest number of tokens that all runs were evaluated at or beyond; None without evaluations."""
    last = [made.evaluations[-1][0] for row in found.values() for made in row.values() if made.evaluations]
    return min(last) if last and min(last) > 0 else None


def at_tokens(
    rows: Sequence[Row], found: Mapping[str, Mapping[int, Trajectory]], metrics: Sequence[str], tokens: float
) -> list[AtTokens]:
    """Returns every row's metrics after ``tokens``. A row has a metric only if all of its runs have it: those that were
    evaluated just there would be a selection by length."""
    made = []
    for row in rows:
        if row.is_base:
            continue
        runs = found.get(row.label, {})
        cells = {}
        for metric in metrics:
            values = {seed: value for seed, one in runs.items() if (value := one.at(metric, tokens)) is not None}
            if values and len(values) == len(runs):
                cells[metric] = make_cell(values)
        absent = "evaluated on all questions at the ends only" if runs else "no tokens in metrics.jsonl"
        made.append(AtTokens(row, cells, "" if cells else absent))
    return made
