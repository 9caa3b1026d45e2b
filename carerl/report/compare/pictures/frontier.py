"""Draws accuracy and calibration side by side, over beta, over divergence, or over generated tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from carerl.metrics.table import metric_line
from carerl.report.compare.frontier import DIVERGENCE, AtBeta, Curve
from carerl.report.compare.pictures.labels import Mark, Point, place_labels
from carerl.report.compare.pictures.scatter import MARGINS, draw, limits, looks, mark_of, name_axes, point
from carerl.report.compare.rows import Row
from carerl.report.compare.tokens import Band
from carerl.report.pictures.panels import WIDTH, margins
from carerl.report.pictures.svg import MUTED, Picture, colour, style

HEIGHT = 4.3  # inches
DECADE = 10.0


def equal_beta(found: Sequence[AtBeta], metrics: Sequence[str]) -> Picture | None:
    """Draws a line per family and alpha over beta. The axis is logarithmic if the betas span more than a decade."""
    by_name: dict[str, list[AtBeta]] = {}
    for at in found:
        by_name.setdefault(at.name, []).append(at)
    betas = sorted({at.beta for at in found})
    log = betas[0] > 0 and betas[-1] / betas[0] > DECADE
    with style():
        figure, panels = _figure(len(metrics))
        for axes, metric in zip(panels, metrics, strict=True):
            lines = []
            for at_name, members in by_name.items():
                there = [at for at in members if metric in at.row.cells]
                labels = [at_name if at is there[-1] else "" for at in there]
                lines.append(
                    [
                        Mark(label, colour(at.family), False, Point(at.beta), point(at.row.cells[metric]))
                        for label, at in zip(labels, there, strict=True)
                    ]
                )
            if log:
                axes.set_xscale("log")
                axes.set_xlim(betas[0] / 1.6, betas[-1] * 1.6)
            else:
                room = 0.2 * (betas[-1] - betas[0]) or 0.5 * betas[0] or 0.5
                axes.set_xlim(betas[0] - room, betas[-1] + room)
            axes.xaxis.set_major_locator(FixedLocator(betas))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            _panel(figure, axes, lines, metric, "beta", [at.row for at in found])
        return Picture("equal-beta", "Accuracy and calibration at equal beta", figure)


def matched_divergence(
    found: Sequence[Curve], rows: Sequence[Row], metrics: Sequence[str], at: float | None
) -> Picture | None:
    """Draws a line per curve over the divergence that its points reached; ``at`` is marked."""
    with style():
        figure, panels = _figure(len(metrics))
        for axes, metric in zip(panels, metrics, strict=True):
            lines: list[list[Mark]] = []
            shown: list[Row] = []
            for curve in found:
                there = [row for row in curve.rows if DIVERGENCE in row.cells and metric in row.cells]
                there.sort(key=lambda row: row.cells[DIVERGENCE].mean)
                tint = colour(curve.family)
                lines.append([mark_of(row, curve.label(row), tint, DIVERGENCE, metric) for row in there])
                shown += there
            bases = [row for row in rows if row.is_base and DIVERGENCE in row.cells and metric in row.cells]
            lines += [[mark_of(row, row.short, MUTED, DIVERGENCE, metric)] for row in bases]
            shown += bases
            if shown:
                axes.set_xlim(limits([number for row in shown for number in row.cells[DIVERGENCE].numbers], False))
            if at is not None:
                axes.axvline(at, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            axes.xaxis.set_major_locator(MaxNLocator(7))
            _panel(figure, axes, lines, metric, metric_line(DIVERGENCE).label, shown)
        return Picture("matched-divergence", "Accuracy and calibration against the divergence reached", figure)


def matched_tokens(courses: Mapping[str, Sequence[Band]], rows: Sequence[Row], counted: str) -> Picture | None:
    """Draws a line per row over the tokens generated or trained so far, with a band of intervals."""
    look = looks(rows)
    with style():
        figure, panels = _figure(len(courses))
        for axes, (metric, bands) in zip(panels, courses.items(), strict=True):
            ends: list[Mark] = []
            lines: list[list[tuple[float, float]]] = []
            for band in bands:
                tint, dashes = look[band.row.label]
                xs = [x for x, _ in band.points]
                ys = [y.mean for _, y in band.points]
                halves = [y.half or 0.0 for _, y in band.points]
                if any(halves):
                    lows, highs = ([y + sign * half for y, half in zip(ys, halves, strict=True)] for sign in (-1, 1))
                    axes.fill_between(xs, lows, highs, color=tint, alpha=0.12, linewidth=0)
                marker = "o" if len(xs) < 30 else None
                axes.plot(xs, ys, color=tint, linestyle=dashes, marker=marker, markersize=3.5)
                ends.append(Mark(band.row.short, tint, False, Point(xs[-1]), Point(ys[-1])))
                lines.append(list(zip(xs, ys, strict=True)))
            most = max((x for line in lines for x, _ in line), default=1.0)
            axes.set_xlim(0, (1.27 if len(courses) == 1 else 1.5) * most)  # room for the labels at the ends
            axes.xaxis.set_major_locator(MaxNLocator(7))
            axes.xaxis.set_major_formatter(FuncFormatter(_count))
            means = [y for line in lines for _, y in line]
            axes.set_ylim(limits(means, True) if means else (0, 1))
            name_axes(axes, f"tokens {counted}", metric)
            place_labels(figure, axes, ends, lines)
        name = "matched-tokens" if counted == "generated" else f"matched-tokens-{counted}"
        return Picture(name, f"Accuracy and calibration against the tokens {counted}", figure)


def _panel(
    figure: Figure, axes: Any, lines: Sequence[Sequence[Mark]], metric: str, x_label: str, rows: Sequence[Row]
) -> None:
    """Draws lines of marks of ``rows``; the limits of x must be set before."""
    numbers = [number for row in rows if metric in row.cells for number in row.cells[metric].numbers]
    if numbers:
        axes.set_ylim(limits(numbers, metric_line(metric).share))
    name_axes(axes, x_label, metric)
    draw(figure, axes, lines)


def _figure(columns: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    panels = figure.subplots(1, columns, squeeze=False)[0]
    margins(figure, *MARGINS, wspace=0.22)
    return figure, list(panels)


def _count(value: float, _: object) -> str:
    """Writes ``250k``, ``1.5M``: three digits are enough for a tick."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if math.fabs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"
