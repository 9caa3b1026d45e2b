"""Labels in a picture: beside what they name, none over another, none outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from carerl.report.compare.rows import Cell
from carerl.report.pictures.svg import MUTED

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels
RADII = (11, 16, 24, 34, 48, 66, 90, 120, 160)
ANGLES = 24
STEP = 6  # pixels between the points of a line that labels keep clear of


@dataclass(slots=True)
class Mark:
    """A point of a picture, with intervals where its cells have them. Without a label it is only kept clear of."""

    label: str
    tint: str
    is_base: bool
    x: Cell
    y: Cell

    def runs(self) -> list[tuple[float, float]]:
        return [(value, self.y.values[seed]) for seed, value in self.x.values.items() if seed in self.y.values]


def place_labels(
    figure: Figure, axes: Any, marks: Sequence[Mark], lines: Sequence[Sequence[tuple[float, float]]] = ()
) -> list[Box]:
    """Write each mark's label next to its mean; returns the labels' boxes. ``lines`` join points of the data.

    Greedy: places on growing circles around the mean are tried and the cheapest taken. A place that
    leaves the axes or touches a placed label is never taken while another is left; covering means,
    lines, interval bars or runs costs more than distance does. A label far from its mean gets a thin line.
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
    small += [dot for line in lines for dot in _dots([tuple(points(point)) for point in line])]
    placed: list[Box] = []
    to_figure = figure.transFigure
    fraction = to_figure.inverted().transform
    # crowded groups choose first: they have the fewest places
    named = [i for i, mark in enumerate(marks) if mark.label]
    order = sorted(named, key=lambda i: -sum(math.dist(means[i], other) < 120 for other in means))
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
        width, height = extent.width + 6, extent.height + 4
        best: tuple[float, Box, float] | None = None
        for radius in RADII:
            for turn in range(ANGLES):
                angle = 2 * math.pi * turn / ANGLES
                box = _anchored(cx, cy, radius, angle, width, height)
                inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
                cost = float(radius) + 2000 * (not inside)
                cost += 3000 * sum(_overlap(box, other) > 0 for other in placed)
                cost += 150 * sum(_overlap(box, other) > 0 for other in big)
                cost += 45 * sum(_overlap(box, other) > 0 for other in bars)
                cost += 12 * sum(_overlap(box, other) > 0 for other in small)
                cost += 2 * abs(math.sin(angle))  # beside rather than above, all else equal
                if best is None or cost < best[0]:
                    best = (cost, box, float(radius))
        assert best is not None
        _, box, distance = best
        text.set_position(fraction((box[0] + 3, box[1] + 2)))
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
    bars = []
    if mark.x.bounds:
        x0, y = points((mark.x.bounds[0], mark.y.mean))
        x1, _ = points((mark.x.bounds[1], mark.y.mean))
        bars.append((x0, y - 1, x1, y + 1))
    if mark.y.bounds:
        x, y0 = points((mark.x.mean, mark.y.bounds[0]))
        _, y1 = points((mark.x.mean, mark.y.bounds[1]))
        bars.append((x - 1, y0, x + 1, y1))
    return bars


def _dots(line: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes along a line."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(line):
        count = max(1, int(math.dist((x0, y0), (x1, y1)) / STEP))
        for i in range(count + 1):
            x, y = x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count
            found.append((x - 1, y - 1, x + 1, y + 1))
    return found


def _anchored(cx: float, cy: float, radius: float, angle: float, width: float, height: float) -> Box:
    """The box whose nearest side or corner lies at ``radius`` from the centre in direction ``angle``."""
    px, py = cx + radius * math.cos(angle), cy + radius * math.sin(angle)
    left = px - width * (1 - math.cos(angle)) / 2
    bottom = py - height * (1 - math.sin(angle)) / 2
    return (left, bottom, left + width, bottom + height)


def _overlap(a: Box, b: Box) -> float:
    """The common area, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
