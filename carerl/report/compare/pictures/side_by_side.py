"""Draws a small panel for each method (reliability with counts, right against wrong), and accuracy over coverage with a
line for each."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from carerl.report.compare.pictures.scatter import Look
from carerl.report.compare.rows import Row
from carerl.report.compare.side_by_side import Bins, Coverage, Split
from carerl.report.compare.tokens import Band
from carerl.report.pictures.panels import (
    WIDTH,
    bar_places,
    column,
    coverage_axes,
    draw_reliability,
    legend_on_top,
    margins,
)
from carerl.report.pictures.svg import DASHED, INK, Picture, colour, style

SMALL = 8.0  # points: the least that is legible when the page is 1280 pixels wide
TITLE_CHARACTERS = 34


def reliability_panels(name: str, title: str, found: Sequence[tuple[Row, Bins]], look: Mapping[str, Look]) -> Picture:
    """Draws a reliability diagram for each row, with the number of answers in each bin below it."""
    columns = min(4, len(found))
    lines = math.ceil(len(found) / columns)
    with style():
        figure = Figure(figsize=(WIDTH, 3.35 * lines))
        outer = figure.add_gridspec(lines, columns)
        most = max(one["count"] for _, bins in found for one in bins)
        for place, (row, bins) in enumerate(found):
            inner = outer[place // columns, place % columns].subgridspec(2, 1, height_ratios=[3, 1.25], hspace=0.1)
            upper = figure.add_subplot(inner[0])
            lower = figure.add_subplot(inner[1], sharex=upper)
            _reliability(upper, lower, row, bins, look[row.label][0], most, place % columns == 0)
        margins(figure, 0.627, 0.114, 0.42, 0.5, wspace=0.2, hspace=0.36)
        return Picture(f"reliability-{_slug(name)}", f"Reliability on {title}, a panel for each method", figure)


def _reliability(upper: Any, lower: Any, row: Row, bins: Bins, tint: str, most: float, first: bool) -> None:
    error = draw_reliability(upper, bins, tint, growth=120)
    upper.set_ylim(-0.03, 1.03)
    upper.text(
        0.03, 0.95, f"pooled ECE {error:.3f}", transform=upper.transAxes, color=INK, va="top", fontsize=SMALL + 1
    )
    upper.set_title("\n".join(textwrap.wrap(row.short, TITLE_CHARACTERS)), loc="left")
    upper.tick_params(labelbottom=False)
    left, width = bar_places(bins)
    count = column(bins, "count")
    lower.bar(left, count, width, align="edge", color=tint, alpha=0.85)
    for x, wide, n in zip(left, width, count, strict=True):
        lower.annotate(
            f"{n:,.0f}",
            (x + wide / 2, n),
            (0, 2),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=SMALL - 0.5,
            color=INK,
        )
    lower.set_ylim(0, 2.3 * most)  # room for the numbers
    lower.set_yticks([])
    lower.grid(False)
    lower.set_xlabel("confidence")
    upper.yaxis.set_major_locator(MaxNLocator(5))
    upper.xaxis.set_major_locator(MaxNLocator(5))
    if first:
        upper.set_ylabel("accuracy")
        lower.set_ylabel("answers")


def coverage_curves(found: Mapping[str, tuple[str, Sequence[Coverage]]], look: Mapping[str, Look]) -> Picture:
    """Draws panels two a line, in each a line for each row, under one legend. ``found``: suite -> its title and
    curves."""
    columns = min(2, len(found))
    lines = math.ceil(len(found) / columns)
    height = 3.7 * lines + 0.55
    with style():
        figure = Figure(figsize=(WIDTH, height))
        grid = figure.subplots(lines, columns, squeeze=False)
        for spare in list(grid.flat)[len(found) :]:
            spare.set_visible(False)
        named: dict[str, Look] = {}
        for axes, (title, curves) in zip(grid.flat, found.values(), strict=False):
            lows = []
            for curve in curves:
                tint, dashes = look[curve.row.label]
                named[curve.row.short] = look[curve.row.label]
                axes.plot(curve.coverage, curve.accuracy, color=tint, linestyle=dashes, linewidth=1.6)
                if curve.seeds > 1:
                    low, high = curve.accuracy - curve.half, curve.accuracy + curve.half
                    axes.fill_between(curve.coverage, low, np.minimum(high, 1), color=tint, alpha=0.1, linewidth=0)
                lows.append(float(curve.accuracy.min()))
            coverage_axes(axes, min(lows))
            axes.set_title(title, loc="left")
        for row in grid:
            row[0].set_ylabel("accuracy on those answered")
        margins(figure, 0.627, 0.114, 0.85, 0.5, wspace=0.12, hspace=0.38)
        _legend(figure, named)
        return Picture("accuracy-coverage", "Accuracy over coverage, a line for each method", figure)


def split_panels(title: str, found: Sequence[Split]) -> Picture:
    """Draws a panel for each row: right responses solid, wrong ones dashed, all on one scale."""
    columns = min(3, len(found))
    lines = math.ceil(len(found) / columns)
    height = 2.25 * lines + 0.6
    tints = {"right": (colour(2), "solid"), "wrong": (colour(1), DASHED)}
    with style():
        figure = Figure(figsize=(WIDTH, height))
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for spare in list(grid.flat)[len(found) :]:
            spare.set_visible(False)
        for axes, split in zip(grid.flat, found, strict=False):
            for band, (tint, dashes) in zip((split.right, split.wrong), tints.values(), strict=True):
                if band is not None:
                    _course(axes, band, tint, dashes)
            axes.set_title("\n".join(textwrap.wrap(split.row.short, 48)), loc="left")
            axes.tick_params(labelbottom=True)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        bands = [band for split in found for band in (split.right, split.wrong) if band is not None]
        most = max(value for band in bands for _, y in band.points for value in y.values.values())
        grid[0][0].set_ylim(0, 1.06 * most or 1.0)  # of every seed in every panel; intervals of few seeds reach further
        for axes in list(grid.flat)[max(0, len(found) - columns) : len(found)]:
            axes.set_xlabel("step")
        for row in grid:
            row[0].set_ylabel("nats per token")
        margins(figure, 0.684, 0.114, 0.62, 0.48, wspace=0.08, hspace=0.42)
        _legend(figure, tints)
        return Picture(
            f"split-{_slug(title)}", f"{title} of right and wrong responses, a panel for each method", figure
        )


def _course(axes: Any, band: Band, tint: str, dashes: Any) -> None:
    xs = [x for x, _ in band.points]
    ys = [y.mean for _, y in band.points]
    axes.plot(xs, ys, color=tint, linestyle=dashes, linewidth=1.5)
    ends = [y.bounds or (y.mean, y.mean) for _, y in band.points]
    if any(high > low for low, high in ends):
        axes.fill_between(xs, *zip(*ends, strict=True), color=tint, alpha=0.12, linewidth=0)


def _legend(figure: Figure, named: Mapping[str, Look]) -> None:
    """Writes a legend over the panels, as many names in a line as there is room for."""
    handles = [Line2D([], [], color=tint, linestyle=dashes, linewidth=1.8) for tint, dashes in named.values()]
    room = int(WIDTH * 72 / (max(map(len, named)) * 5.2 + 40))
    legend_on_top(figure, handles, list(named), 0.045, max(1, min(len(named), room)))


def _slug(name: str) -> str:
    return "-".join(name.lower().replace("/", " ").split())
