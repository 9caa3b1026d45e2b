"""The numbers behind a comparison's means, method by method: reliability, accuracy over coverage, and the courses of
entropy and divergence split by right and wrong. ``pictures/side_by_side`` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carerl.calibration.ranking import accuracy_over_coverage, coverage_places
from carerl.metrics.table import names_in
from carerl.report.compare.evaluated import Evaluated
from carerl.report.compare.rows import Row, make_cell, seeds_half
from carerl.report.compare.tokens import Band
from carerl.report.smoothing import smooth
from carerl.runs.jsonl import read_metrics, series

Bins = list[dict[str, float]]

# Title, and the picture of a run's report that has the metrics of right and wrong responses.
SPLITS = (("Entropy", "entropy_split"), ("Divergence to the reference", "divergence_split"))


@dataclass(frozen=True, slots=True)
class Coverage:
    """Holds a row's accuracy on its most confident answers. ``half`` is NaN below two seeds."""

    row: Row
    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    half: NDArray[np.float64]
    seeds: int
    questions: int  # of one run, the most


@dataclass(frozen=True, slots=True)
class Split:
    """Holds a row's course for right and for wrong responses, over steps; either can be absent."""

    row: Row
    right: Band | None
    wrong: Band | None


def reliability_by_row(
    rows: Sequence[Row], evaluated: Mapping[str, Sequence[Evaluated]]
) -> dict[str, list[tuple[Row, Bins]]]:
    """Maps the name of a diagram to rows with their bins, pooled over seeds."""
    found: dict[str, list[tuple[Row, Bins]]] = {}
    for row in rows:
        runs = evaluated.get(row.label, ())
        for name in dict.fromkeys(name for one in runs for name in one.reliability):
            bins = pooled_bins([one.reliability.get(name, ()) for one in runs])
            if bins:
                found.setdefault(name, []).append((row, bins))
    return found


def pooled_bins(diagrams: Sequence[Sequence[Mapping[str, float]]]) -> Bins:
    """Pools several diagrams: bins of the same bounds become one, their means weighted by their counts."""
    pooled: dict[tuple[float, float], list[Mapping[str, float]]] = {}
    for bins in diagrams:
        for one in bins:
            if one.get("count"):
                pooled.setdefault((round(one["low"], 9), round(one["high"], 9)), []).append(one)
    made = []
    for (low, high), members in sorted(pooled.items()):
        count = math.fsum(member["count"] for member in members)
        means = {
            name: math.fsum(member["count"] * member[name] for member in members) / count
            for name in ("confidence", "accuracy")
        }
        made.append({"low": low, "high": high, **means, "count": count})
    return made


def coverage_by_row(rows: Sequence[Row], evaluated: Mapping[str, Sequence[Evaluated]]) -> dict[str, list[Coverage]]:
    """Maps a suite to the rows' curves, for the suites with a reliability diagram (for all of them if none has one)."""
    diagrams = {name for runs in evaluated.values() for one in runs for name in one.reliability}
    suites = dict.fromkeys(
        str(question.get("suite"))
        for runs in evaluated.values()
        for one in runs
        for question in one.questions
        if question.get("confidence") is not None
    )
    chosen = [suite for suite in suites if suite in diagrams] or list(suites)
    found: dict[str, list[Coverage]] = {}
    for suite in chosen:
        for row in rows:
            curve = _coverage(row, suite, evaluated.get(row.label, ()))
            if curve:
                found.setdefault(suite, []).append(curve)
    return found


def _coverage(row: Row, suite: str, runs: Sequence[Evaluated]) -> Coverage | None:
    curves, most = [], 0
    for one in runs:
        asked = [q for q in one.questions if q.get("suite") == suite and q.get("right") is not None]
        if asked:
            confidence = np.asarray([q.get("confidence") or 0.0 for q in asked])
            curves.append(accuracy_over_coverage(confidence, np.asarray([float(q["right"]) for q in asked])))
            most = max(most, len(asked))
    if not curves:
        return None
    values = np.stack(curves)
    halves = [seeds_half(column.tolist()) for column in values.T]
    half = np.asarray([math.nan if half is None else half for half in halves])
    return Coverage(row, coverage_places(), values.mean(axis=0), half, len(curves), most)


def splits_by_row(rows: Sequence[Row]) -> dict[str, list[Split]]:
    """Maps a title to the rows' courses as far as they were logged, smoothed as in a run's report, with intervals over
    seeds."""
    found: dict[str, list[Split]] = {}
    for row in rows:
        if row.is_base:
            continue
        logged = {run.seed: read_metrics(run.path / "metrics.jsonl") for run in row.runs}
        for title, picture in SPLITS:
            right, wrong = names_in(f"curves/{picture}")
            made = Split(row, _band(row, logged, right), _band(row, logged, wrong))
            if made.right or made.wrong:
                found.setdefault(title, []).append(made)
    return found


def _band(row: Row, logged: Mapping[int, list[dict[str, float]]], metric: str) -> Band | None:
    """Returns at each step the mean over the seeds that have the metric there: a step without wrong responses lacks
    it."""
    values: dict[int, dict[int, float]] = {}
    for seed, rows in logged.items():
        steps, course = series(rows, metric)
        for step, value in zip(steps, smooth(np.asarray(course)).tolist() if course else [], strict=True):
            values.setdefault(step, {})[seed] = value
    points = [(float(step), make_cell(found)) for step, found in sorted(values.items())]
    return Band(row, points) if points else None
