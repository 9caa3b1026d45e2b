"""Draws accuracy against calibration: a small point per run, a large one per group, a line per curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carerl.metrics.table import metric_line
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.frontier import curves, families
from carerl.report.compare.pictures.labels import Mark, Point, place_labels
from carerl.report.compare.rows import Cell, Row
from carerl.report.pictures.panels import margins
from carerl.report.pictures.svg import CARD, DASHES, MUTED, Picture, colour, style

Look = tuple[str, Any]  # colour and dashes
MARGINS = (0.78, 0.15, 0.12, 0.5)  # inches: left, right, top, bottom


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Returns, by label, the colour of a row's family and dashes in turn within it; base models are muted."""
    found: dict[str, Look] = {row.label: (MUTED, "solid") for row in rows if row.is_base}
    for number, family in enumerate(families(rows)):
        found |= {row.label: (colour(number), DASHES[turn % len(DASHES)]) for turn, row in enumerate(family)}
    return found


def scatter(comparison: Comparison, x: str, y: str, size: tuple[float, float]) -> Picture | None:
    """Draws the metric ``y`` over the metric ``x``; None if no group has both. ``size`` is in inches. The points of one
    curve are joined in the order of its setting."""
    rows = [row for row in comparison.rows if x in row.cells and y in row.cells]
    lines = [[mark_of(row, row.short, MUTED, x, y)] for row in rows if row.is_base]
    for curve in curves(comparison.rows):
        shown = [row for row in curve.rows if x in row.cells and y in row.cells]
        lines.append([mark_of(row, curve.label(row), colour(curve.family), x, y) for row in shown])
    if not rows:
        return None
    with style():
        figure = Figure(figsize=size)
        axes = figure.subplots()
        margins(figure, *MARGINS)
        axes.set_xlim(limits([number for row in rows for number in row.cells[x].numbers], metric_line(x).share))
        axes.set_ylim(limits([number for row in rows for number in row.cells[y].numbers], metric_line(y).share))
        axes.xaxis.set_major_locator(MaxNLocator(8))
        name_axes(axes, metric_line(x).label, y)
        draw(figure, axes, lines)
        description = f"{metric_line(y).label} against {metric_line(x).label}"
        return Picture(f"scatter-{y.replace('/', '-')}", description, figure)


def mark_of(row: Row, label: str, tint: str, x: str, y: str) -> Mark:
    """Returns the mark of a row's metrics ``x`` and ``y``, with the runs that have both."""
    xs, ys = row.cells[x], row.cells[y]
    runs = [(value, ys.values[seed]) for seed, value in xs.values.items() if seed in ys.values]
    return Mark(label, tint, row.is_base, point(xs), point(ys), runs)


def point(cell: Cell) -> Point:
    """Returns a cell's mean and interval as a place on an axis."""
    return Point(cell.mean, *(cell.bounds or ()))


def name_axes(axes: Any, x_label: str, metric: str) -> None:
    """Labels axes of a metric over something. The first number below keeps clear of the one to the left of it."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(directed_label(metric))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.tick_params(axis="x", pad=6)


def draw(figure: Figure, axes: Any, lines: Sequence[Sequence[Mark]]) -> None:
    """Draws lines of marks and their labels; the limits of both axes must be set before."""
    for line in lines:
        if len(line) > 1:
            axes.plot(*zip(*_course(line), strict=True), color=line[0].tint, linewidth=1.5, alpha=0.75, zorder=2)
    marks = [mark for line in lines for mark in line]
    for mark in marks:
        _draw_mark(axes, mark)
    place_labels(figure, axes, marks, [_course(line) for line in lines])


def directed_label(metric: str) -> str:
    """Returns a metric's label and which direction is good."""
    line = metric_line(metric)
    return line.label + {1: "  (more is better)", 0: "", -1: "  (less is better)"}[line.better]


def _course(line: Sequence[Mark]) -> list[tuple[float, float]]:
    return [(mark.x.value, mark.y.value) for mark in line]


def _draw_mark(axes: Any, mark: Mark) -> None:
    """Draws the mean, its intervals if it has some, and the runs behind it."""
    if len(mark.runs) > 1:
        axes.scatter(
            *zip(*mark.runs, strict=True), s=13, color=mark.tint, alpha=0.4, linewidth=0, zorder=2, clip_on=False
        )
    if mark.x.ends or mark.y.ends:
        axes.errorbar(
            mark.x.value,
            mark.y.value,
            xerr=_arms(mark.x),
            yerr=_arms(mark.y),
            color=mark.tint,
            linewidth=1.4,
            zorder=3,
        )
    marker = "D" if mark.is_base else "o"
    axes.scatter(
        mark.x.value,
        mark.y.value,
        s=60 if mark.is_base else 85,
        marker=marker,
        color=mark.tint,
        edgecolor=CARD,
        linewidth=1.3,
        zorder=4,
        clip_on=False,  # a share of 0 or 1 lies on the frame
    )


def _arms(at: Point) -> list[list[float]] | None:
    """Returns the lengths below and above the value, as matplotlib takes them; None without an interval."""
    return [[max(at.value - at.low, 0.0)], [max(at.high - at.value, 0.0)]] if at.ends else None


def limits(numbers: Sequence[float], share: bool) -> tuple[float, float]:
    """Returns the ends of an axis that shows all numbers with some room. An axis of a ``share`` stays within [0, 1],
    though the intervals of few seeds can reach further."""
    least, most = (0.0, 1.0) if share else (-math.inf, math.inf)
    low, high = max(least, min(numbers)), min(most, max(numbers))
    span = high - low or 0.1
    return max(least, low - 0.09 * span), min(most, high + 0.12 * span)
