"""Accuracy against calibration: a small point per run, a large one per group, labels apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carerl.report.comparison import Cell, Comparison
from carerl.report.metric_table import metric_line
from carerl.report.svg import CARD, MUTED, colour, style, to_svg

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels
RADII = (11, 16, 24, 34, 48, 66, 90, 120, 160)
ANGLES = 24


@dataclass(slots=True)
class Mark:
    """A group in one picture."""

    label: str
    tint: str
    is_base: bool
    x: Cell
    y: Cell

    def runs(self) -> list[tuple[float, float]]:
        return [(value, self.y.values[seed]) for seed, value in self.x.values.items() if seed in self.y.values]


def scatter(comparison: Comparison, x: str, y: str, size: tuple[float, float]) -> str | None:
    """``x`` and ``y`` are metrics, ``size`` is in inches. None when no group has both metrics."""
    marks = []
    index = 0
    for row in comparison.rows:
        tint = MUTED if row.is_base else colour(index)
        index += not row.is_base
        if x in row.cells and y in row.cells:
            marks.append(Mark(row.short, tint, row.is_base, row.cells[x], row.cells[y]))
    if not marks:
        return None
    with style():
        figure = Figure(figsize=size)
        axes = figure.subplots()
        inch = 1 / size[0], 1 / size[1]
        figure.subplots_adjust(
            left=0.62 * inch[0], right=1 - 0.15 * inch[0], top=1 - 0.12 * inch[1], bottom=0.5 * inch[1]
        )
        for mark in marks:
            _draw(axes, mark)
        axes.set_xlim(limits([mark.x for mark in marks], metric_line(x).share))
        axes.set_ylim(limits([mark.y for mark in marks], metric_line(y).share))
        axes.set_xlabel(metric_line(x).label)
        axes.set_ylabel(
            metric_line(y).label + {1: "  (more is better)", -1: "  (less is better)"}[metric_line(y).better]
        )
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.yaxis.set_major_locator(MaxNLocator(7))
        axes.tick_params(length=0)
        place_labels(figure, axes, marks)
        return to_svg(
            figure, f"scatter-{y.replace('/', '-')}", f"{metric_line(y).label} against {metric_line(x).label}"
        )


def _draw(axes: Any, mark: Mark) -> None:
    runs = mark.runs()
    if len(runs) > 1:
        axes.scatter(*zip(*runs, strict=True), s=13, color=mark.tint, alpha=0.4, linewidth=0, zorder=2, clip_on=False)
    if mark.x.half is not None and mark.y.half is not None:
        axes.errorbar(
            mark.x.mean,
            mark.y.mean,
            xerr=mark.x.half,
            yerr=mark.y.half,
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


def limits(cells: Sequence[Cell], share: bool) -> tuple[float, float]:
    """The ends of an axis that shows the cells' values and intervals with some room. An axis of a ``share`` stays
    within [0, 1], though the intervals of few seeds can reach further."""
    low = min(min(*cell.values.values(), cell.mean - (cell.half or 0)) for cell in cells)
    high = max(max(*cell.values.values(), cell.mean + (cell.half or 0)) for cell in cells)
    least, most = (0.0, 1.0) if share else (-math.inf, math.inf)
    low, high = max(least, low), min(most, high)
    span = high - low or 0.1
    return max(least, low - 0.09 * span), min(most, high + 0.12 * span)


def place_labels(figure: Figure, axes: Any, marks: Sequence[Mark]) -> list[Box]:
    """Write each group's label next to its mean; returns the labels' boxes.

    Greedy: places on growing circles around the mean are tried and the cheapest taken. A place that
    leaves the axes or touches a placed label is never taken while another is left; covering means,
    interval bars or runs costs more than distance does. A label far from its mean gets a thin line.
    """
    canvas = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    points = axes.transData.transform
    frame = axes.get_window_extent(renderer)
    means = [tuple(points((m.x.mean, m.y.mean))) for m in marks]
    big = [(px - 8, py - 8, px + 8, py + 8) for px, py in means]
    small: list[Box] = []
    for mark in marks:
        for run in mark.runs():
            px, py = points(run)
            small.append((px - 3, py - 3, px + 3, py + 3))
    bars = [bar for mark in marks for bar in _bars(points, mark)]
    placed: list[Box] = []
    to_figure = figure.transFigure
    fraction = to_figure.inverted().transform
    # crowded groups choose first: they have the fewest places
    order = sorted(range(len(marks)), key=lambda i: -sum(math.dist(means[i], other) < 120 for other in means))
    for i in order:
        mark, (cx, cy) = marks[i], means[i]
        weight = "normal" if mark.is_base else "bold"
        text = axes.text(
            0,
            0,
            mark.label,
            transform=to_figure,
            color=mark.tint,
            fontsize=9.5,
            fontweight=weight,
            va="bottom",
        )
        extent = text.get_window_extent(renderer)
        width, height = extent.width + 6, extent.height
        best: tuple[float, Box, float] | None = None
        for radius in RADII:
            for turn in range(ANGLES):
                angle = 2 * math.pi * turn / ANGLES
                box = _anchored(cx, cy, radius, angle, width, height)
                inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
                cost = float(radius) + 2000 * (not inside)
                cost += 3000 * sum(_overlap(box, other) > 0 for other in placed)
                cost += 150 * sum(_overlap(box, other) > 0 for other in big)
                cost += 30 * sum(_overlap(box, other) > 0 for other in bars)
                cost += 12 * sum(_overlap(box, other) > 0 for other in small)
                cost += 2 * abs(math.sin(angle))  # beside rather than above, all else equal
                if best is None or cost < best[0]:
                    best = (cost, box, float(radius))
        assert best is not None
        _, box, distance = best
        text.set_position(fraction((box[0] + 3, box[1])))
        placed.append(box)
        if distance > 24:
            near = (min(max(cx, box[0]), box[2]), min(max(cy, box[1]), box[3]))
            # from the mean's edge to the label, both in fractions of the figure, whatever its dpi
            length = math.dist((cx, cy), near)
            start = tuple(c + (n - c) * 7 / length for c, n in zip((cx, cy), near, strict=True))
            xs, ys = zip(fraction(start), fraction(near), strict=True)
            axes.plot(xs, ys, transform=to_figure, color=MUTED, linewidth=0.6, clip_on=False, zorder=1)
    return placed


def _bars(points: Any, mark: Mark) -> list[Box]:
    if mark.x.half is None or mark.y.half is None:
        return []
    x0, y = points((mark.x.mean - mark.x.half, mark.y.mean))
    x1, _ = points((mark.x.mean + mark.x.half, mark.y.mean))
    x, y0 = points((mark.x.mean, mark.y.mean - mark.y.half))
    _, y1 = points((mark.x.mean, mark.y.mean + mark.y.half))
    return [(x0, y - 1, x1, y + 1), (x - 1, y0, x + 1, y1)]


def _anchored(cx: float, cy: float, radius: float, angle: float, width: float, height: float) -> Box:
    """The box whose nearest side or corner lies at ``radius`` from the centre in direction ``angle``."""
    px, py = cx + radius * math.cos(angle), cy + radius * math.sin(angle)
    left = px - width * (1 - math.cos(angle)) / 2
    bottom = py - height * (1 - math.sin(angle)) / 2
    return (left, bottom, left + width, bottom + height)


def _overlap(a: Box, b: Box) -> float:
    """The common area, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
