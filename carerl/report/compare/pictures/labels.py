"""Writes labels in a picture: beside their marks, none over another, none outside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from carerl.report.pictures.svg import MUTED

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels
RADII = (11, 16, 24, 34, 48, 66, 90, 120, 160)
ANGLES = 24
STEP = 6  # pixels between the points of a line that labels keep clear of


@dataclass(frozen=True, slots=True)
class Point:
    """Holds a mark's place on one axis: a value, and the ends of its interval, NaN without one."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def ends(self) -> tuple[float, float] | None:
        return None if math.isnan(self.low) else (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Mark:
    """Holds a point of a picture and the places of the ``runs`` behind it. A mark without a label is not named, but
    labels keep clear of it."""

    label: str
    tint: str
    is_base: bool
    x: Point
    y: Point
    runs: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class _Taken:
    """Holds the boxes that a label is placed among. ``frame``: of the axes. ``labels`` grows as labels are placed."""

    frame: Box
    labels: list[Box]
    means: Sequence[Box]
    bars: Sequence[Box]
    dots: Sequence[Box]

    def cost(self, box: Box, radius: float, angle: float) -> float:
        """Returns the cost of a place. Leaving the axes or touching a label costs more than anything else; then come
        means, interval bars, and runs or lines. All else equal, beside is cheaper than above."""
        frame = self.frame
        inside = frame[0] <= box[0] and box[2] <= frame[2] and frame[1] <= box[1] and box[3] <= frame[3]
        cost = float(radius) + 2000 * (not inside)
        for weight, others in ((3000, self.labels), (150, self.means), (45, self.bars), (12, self.dots)):
            cost += weight * sum(_overlap(box, other) > 0 for other in others)
        return cost + 2 * abs(math.sin(angle))


def place_labels(
    figure: Figure, axes: Any, marks: Sequence[Mark], lines: Sequence[Sequence[tuple[float, float]]] = ()
) -> list[Box]:
    """Writes each mark's label next to its mean; returns the labels' boxes. ``lines`` join points of the data.

    Greedy: places on growing circles around the mean are tried and the cheapest is taken (:meth:`_Taken.cost`). A label
    far from its mean gets a thin line to it.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    points = axes.transData.transform
    extent = axes.get_window_extent(renderer)
    means = [tuple(points((mark.x.value, mark.y.value))) for mark in marks]
    taken = _Taken(
        frame=(extent.x0, extent.y0, extent.x1, extent.y1),
        labels=[],
        means=[_around(mean, 8) for mean in means],
        bars=[bar for mark in marks for bar in _bars(points, mark)],
        dots=[
            *(_around(points(run), 3) for mark in marks for run in mark.runs),
            *(dot for line in lines for dot in _dots([tuple(points(point)) for point in line])),
        ],
    )
    fraction = figure.transFigure.inverted().transform
    # crowded groups choose first: they have the fewest places
    named = [i for i, mark in enumerate(marks) if mark.label]
    for i in sorted(named, key=lambda i: -sum(math.dist(means[i], other) < 120 for other in means)):
        text = axes.text(
            0,
            0,
            marks[i].label,
            transform=figure.transFigure,
            color=marks[i].tint,
            fontsize=9.5,
            fontweight="normal" if marks[i].is_base else "bold",
            va="bottom",
        )
        size = text.get_window_extent(renderer)
        box, distance = _cheapest(taken, means[i], size.width + 6, size.height + 4)
        text.set_position(fraction((box[0] + 3, box[1] + 2)))
        taken.labels.append(box)
        if distance > 24:
            _join(figure, axes, means[i], box)
    return taken.labels


def _cheapest(taken: _Taken, mean: Sequence[float], width: float, height: float) -> tuple[Box, float]:
    """Returns the cheapest box for a label of that size around a mean, and its distance from the mean."""
    places = (
        (_anchored(mean[0], mean[1], radius, angle, width, height), radius, angle)
        for radius in RADII
        for angle in (2 * math.pi * turn / ANGLES for turn in range(ANGLES))
    )
    box, distance, _ = min(places, key=lambda place: taken.cost(*place))
    return box, float(distance)


def _join(figure: Figure, axes: Any, mean: Sequence[float], box: Box) -> None:
    """Draws a thin line from the mean's edge to the label, in fractions of the figure: right at every resolution."""
    (cx, cy), fraction = mean, figure.transFigure.inverted().transform
    near = (min(max(cx, box[0]), box[2]), min(max(cy, box[1]), box[3]))
    length = math.dist((cx, cy), near)
    start = tuple(c + (n - c) * 7 / length for c, n in zip((cx, cy), near, strict=True))
    xs, ys = zip(fraction(start), fraction(near), strict=True)
    axes.plot(xs, ys, transform=figure.transFigure, color=MUTED, linewidth=0.6, clip_on=False, zorder=1)


def _around(centre: Iterable[float], reach: float) -> Box:
    x, y = centre
    return (x - reach, y - reach, x + reach, y + reach)


def _bars(points: Any, mark: Mark) -> list[Box]:
    bars = []
    if mark.x.ends:
        x0, y = points((mark.x.low, mark.y.value))
        x1, _ = points((mark.x.high, mark.y.value))
        bars.append((x0, y - 1, x1, y + 1))
    if mark.y.ends:
        x, y0 = points((mark.x.value, mark.y.low))
        _, y1 = points((mark.x.value, mark.y.high))
        bars.append((x - 1, y0, x + 1, y1))
    return bars


def _dots(line: Sequence[tuple[float, float]]) -> list[Box]:
    """Returns small boxes along a line."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(line):
        count = max(1, int(math.dist((x0, y0), (x1, y1)) / STEP))
        for i in range(count + 1):
            x, y = x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count
            found.append((x - 1, y - 1, x + 1, y + 1))
    return found


def _anchored(cx: float, cy: float, radius: float, angle: float, width: float, height: float) -> Box:
    """Returns the box whose nearest side or corner lies at ``radius`` from the centre in direction ``angle``."""
    px, py = cx + radius * math.cos(angle), cy + radius * math.sin(angle)
    left = px - width * (1 - math.cos(angle)) / 2
    bottom = py - height * (1 - math.sin(angle)) / 2
    return (left, bottom, left + width, bottom + height)


def _overlap(a: Box, b: Box) -> float:
    """Returns the common area, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
