"""Two pictures side by side, accuracy and calibration, over beta, over divergence, or over generated tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from carerl.metrics.table import metric_line
from carerl.report.compare.frontier import DIVERGENCE, AtBeta, Curve
from carerl.report.compare.pictures.labels import Mark, place_labels
from carerl.report.compare.pictures.scatter import course, directed_label, draw_line, draw_mark, limits, looks
from carerl.report.compare.rows import Cell, Row
from carerl.report.compare.tokens import Band
from carerl.report.pictures.svg import MUTED, TICK_PAD, Picture, colour, style

WIDTH, HEIGHT = 11.4, 4.3  # inches
DECADE = 10.0
Line = list[Mark]


def equal_beta(found: Sequence[AtBeta], metrics: Sequence[str]) -> Picture | None:
    """A line per family and alpha over beta, on a logarithmic axis from more than a decade on."""
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
                        Mark(label, colour(at.family), False, Cell({}, at.beta, None), at.row.cells[metric])
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
            _panel(figure, axes, lines, metric, "beta")
        return Picture("equal-beta", "Accuracy and calibration at equal beta", figure)


def matched_divergence(
    found: Sequence[Curve], rows: Sequence[Row], metrics: Sequence[str], at: float | None
) -> Picture | None:
    """A line per curve over the divergence that its points reached; ``at`` is marked."""
    with style():
        figure, panels = _figure(len(metrics))
        for axes, metric in zip(panels, metrics, strict=True):
            lines = []
            for curve in found:
                there = [row for row in curve.rows if DIVERGENCE in row.cells and metric in row.cells]
                there.sort(key=lambda row: row.cells[DIVERGENCE].mean)
                tint = colour(curve.family)
                lines.append([Mark(curve.label(r), tint, False, r.cells[DIVERGENCE], r.cells[metric]) for r in there])
            bases = [row for row in rows if row.is_base and DIVERGENCE in row.cells and metric in row.cells]
            lines += [[Mark(row.short, MUTED, True, row.cells[DIVERGENCE], row.cells[metric])] for row in bases]
            cells = [mark.x for line in lines for mark in line]
            if cells:
                axes.set_xlim(limits(cells, False))
            if at is not None:
                axes.axvline(at, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            axes.xaxis.set_major_locator(MaxNLocator(7))
            _panel(figure, axes, lines, metric, metric_line(DIVERGENCE).label)
        return Picture("matched-divergence", "Accuracy and calibration against the divergence reached", figure)


def matched_tokens(courses: Mapping[str, Sequence[Band]], rows: Sequence[Row]) -> Picture | None:
    """A line per row over the tokens generated so far, with a band of intervals."""
    look = looks(rows)
    with style():
        figure, panels = _figure(len(courses))
        for axes, (metric, bands) in zip(panels, courses.items(), strict=True):
            ends: list[Line] = []
            lines: list[list[tuple[float, float]]] = []
            for band in bands:
                tint, dashes = look[band.row.label]
                xs = [x.mean for x, _ in band.points]
                ys = [y.mean for _, y in band.points]
                halves = [y.half or 0.0 for _, y in band.points]
                if any(halves):
                    lows, highs = ([y + sign * half for y, half in zip(ys, halves, strict=True)] for sign in (-1, 1))
                    axes.fill_between(xs, lows, highs, color=tint, alpha=0.12, linewidth=0)
                marker = "o" if len(xs) < 30 else None
                axes.plot(xs, ys, color=tint, linestyle=dashes, marker=marker, markersize=3.5)
                end = band.points[-1]
                ends.append([Mark(band.row.short, tint, False, Cell({}, end[0].mean, None), Cell({}, ys[-1], None))])
                lines.append(list(zip(xs, ys, strict=True)))
            most = max((x for line in lines for x, _ in line), default=1.0)
            axes.set_xlim(0, (1.27 if len(courses) == 1 else 1.5) * most)  # room for the labels at the ends
            axes.xaxis.set_major_locator(MaxNLocator(7))
            axes.xaxis.set_major_formatter(FuncFormatter(_count))
            means = [Cell({0: y}, y, None) for line in lines for _, y in line]
            axes.set_ylim(limits(means, True) if means else (0, 1))
            _labelled(axes, metric, "tokens generated")
            place_labels(figure, axes, [mark for line in ends for mark in line], lines)
        return Picture("matched-tokens", "Accuracy and calibration against the tokens generated", figure)


def _panel(figure: Figure, axes: Any, lines: Sequence[Line], metric: str, x_label: str) -> None:
    """Draws lines of marks; the limits of x are there already."""
    marks = [mark for line in lines for mark in line]
    for line in lines:
        draw_line(axes, line)
    for mark in marks:
        draw_mark(axes, mark)
    if marks:
        axes.set_ylim(limits([mark.y for mark in marks], metric_line(metric).share))
    _labelled(axes, metric, x_label)
    place_labels(figure, axes, marks, [course(line) for line in lines])


def _labelled(axes: Any, metric: str, x_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(directed_label(metric))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.tick_params(length=0)
    axes.tick_params(axis="x", pad=TICK_PAD)


def _figure(columns: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    panels = figure.subplots(1, columns, squeeze=False)[0]
    figure.subplots_adjust(left=0.78 / WIDTH, right=1 - 0.15 / WIDTH, top=1 - 0.12 / HEIGHT, bottom=0.5 / HEIGHT)
    figure.subplots_adjust(wspace=0.22)
    return figure, list(panels)


def _count(value: float, _: object) -> str:
    """``250k``, ``1.5M``: three digits are enough for a tick."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if math.fabs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"
