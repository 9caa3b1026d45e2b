"""Accuracy against calibration: a small point per run, a large one per group, a line per curve, labels apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carerl.metrics.table import metric_line
from carerl.report.compare.frontier import curves, families
from carerl.report.compare.pictures.labels import Mark, place_labels
from carerl.report.compare.rows import Cell, Comparison, Row
from carerl.report.pictures.svg import CARD, DASHES, MUTED, TICK_PAD, Picture, colour, style

Look = tuple[str, Any]  # colour and dashes


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """By label: the colour of a row's family, dashes in turn within it; base models are muted."""
    found: dict[str, Look] = {row.label: (MUTED, "solid") for row in rows if row.is_base}
    for number, family in enumerate(families(rows)):
        found |= {row.label: (colour(number), DASHES[turn % len(DASHES)]) for turn, row in enumerate(family)}
    return found


def scatter(comparison: Comparison, x: str, y: str, size: tuple[float, float]) -> Picture | None:
    """``x`` and ``y`` are metrics, ``size`` is in inches. None when no group has both metrics. The points of one
    curve are joined in the order of its setting."""
    marks = [
        Mark(row.short, MUTED, True, row.cells[x], row.cells[y])
        for row in comparison.rows
        if row.is_base and x in row.cells and y in row.cells
    ]
    lines: list[list[Mark]] = []
    for curve in curves(comparison.rows):
        tint = colour(curve.family)
        shown = [row for row in curve.rows if x in row.cells and y in row.cells]
        lines.append([Mark(curve.label(row), tint, False, row.cells[x], row.cells[y]) for row in shown])
    marks += [mark for line in lines for mark in line]
    if not marks:
        return None
    with style():
        figure = Figure(figsize=size)
        axes = figure.subplots()
        inch = 1 / size[0], 1 / size[1]
        figure.subplots_adjust(
            left=0.78 * inch[0], right=1 - 0.15 * inch[0], top=1 - 0.12 * inch[1], bottom=0.5 * inch[1]
        )
        for line in lines:
            draw_line(axes, line)
        for mark in marks:
            draw_mark(axes, mark)
        axes.set_xlim(limits([mark.x for mark in marks], metric_line(x).share))
        axes.set_ylim(limits([mark.y for mark in marks], metric_line(y).share))
        axes.set_xlabel(metric_line(x).label)
        axes.set_ylabel(directed_label(y))
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.yaxis.set_major_locator(MaxNLocator(7))
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=TICK_PAD)
        place_labels(figure, axes, marks, [course(line) for line in lines])
        description = f"{metric_line(y).label} against {metric_line(x).label}"
        return Picture(f"scatter-{y.replace('/', '-')}", description, figure)


def directed_label(metric: str) -> str:
    line = metric_line(metric)
    return line.label + {1: "  (more is better)", 0: "", -1: "  (less is better)"}[line.better]


def course(line: Sequence[Mark]) -> list[tuple[float, float]]:
    return [(mark.x.mean, mark.y.mean) for mark in line]


def draw_line(axes: Any, line: Sequence[Mark]) -> None:
    if len(line) > 1:
        axes.plot(*zip(*course(line), strict=True), color=line[0].tint, linewidth=1.5, alpha=0.75, zorder=2)


def draw_mark(axes: Any, mark: Mark) -> None:
    """The mean, its intervals as far as there are some, and the runs behind it."""
    runs = mark.runs()
    if len(runs) > 1:
        axes.scatter(*zip(*runs, strict=True), s=13, color=mark.tint, alpha=0.4, linewidth=0, zorder=2, clip_on=False)
    if mark.x.bounds or mark.y.bounds:
        axes.errorbar(
            mark.x.mean,
            mark.y.mean,
            xerr=_arms(mark.x),
            yerr=_arms(mark.y),
            color=mark.tint,
            linewidth=1.4,
            zorder=3,
        )
    marker = "D" if mark.is_base else "o"
    axes.scatter(
        mark.x.mean,
        mark.y.mean,
        s=60 if mark.is_base else 85,
        marker=marker,
        color=mark.tint,
        edgecolor=CARD,
        linewidth=1.3,
        zorder=4,
        clip_on=False,  # a share of 0 or 1 lies on the frame
    )


def _arms(cell: Cell) -> list[list[float]] | None:
    """Lengths below and above the mean, as matplotlib takes them."""
    return [[max(cell.mean - cell.bounds[0], 0.0)], [max(cell.bounds[1] - cell.mean, 0.0)]] if cell.bounds else None


def limits(cells: Sequence[Cell], share: bool) -> tuple[float, float]:
    """The ends of an axis that shows the cells' values and intervals with some room. An axis of a ``share`` stays
    within [0, 1], though the intervals of few seeds can reach further."""
    low = min(value for cell in cells for value in (*cell.values.values(), cell.mean, *(cell.bounds or ())))
    high = max(value for cell in cells for value in (*cell.values.values(), cell.mean, *(cell.bounds or ())))
    least, most = (0.0, 1.0) if share else (-math.inf, math.inf)
    low, high = max(least, low), min(most, high)
    span = high - low or 0.1
    return max(least, low - 0.09 * span), min(most, high + 0.12 * span)
