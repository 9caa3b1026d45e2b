"""Draws the reliability diagrams of one run or evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from carerl.report.pictures.panels import bar_places, column, draw_reliability
from carerl.report.pictures.svg import INK, Picture, colour, style, to_svg
from carerl.runs.files import read_json

SIZE = (5.6, 3.3)  # inches


def reliability(name: str, states: Mapping[str, Sequence[Mapping[str, float]]]) -> str | None:
    """Draws reliability diagrams side by side, one per state (``base``, ``final``), as SVG; None without an item.

    Each bin is a mapping with ``low high confidence accuracy count``. A dot lies at the mean confidence
    and the accuracy of its bin, its area grows with the bin's share; the bar below is that share.
    """
    figure = reliability_figure(states)
    if figure is None:
        return None
    shown = ", ".join(state for state, bins in states.items() if any(b.get("count") for b in bins))
    return to_svg(figure, f"reliability-{name.replace('/', '-')}", f"Reliability of {name}: {shown}")


def reliability_figure(states: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure | None:
    """Returns the figure of :func:`reliability`; None if no state has an item."""
    states = {state: [b for b in bins if b.get("count")] for state, bins in states.items()}
    states = {state: bins for state, bins in states.items() if bins}
    if not states:
        return None
    with style():
        figure = Figure(figsize=SIZE)
        grid = figure.subplots(
            2,
            len(states),
            squeeze=False,
            sharex=True,
            sharey="row",
            gridspec_kw={"height_ratios": [5, 1], "hspace": 0.12},
        )
        for column, (state, bins) in enumerate(states.items()):
            _reliability_axes(grid[0][column], grid[1][column], state, bins, colour(column), column == 0)
        figure.subplots_adjust(left=0.1, right=0.985, top=0.92, bottom=0.14, wspace=0.16)
        return figure


def _reliability_axes(
    axes: Any, below: Any, state: str, bins: Sequence[Mapping[str, float]], tint: str, first: bool
) -> None:
    error = draw_reliability(axes, bins, tint, growth=160)
    axes.set_ylim(-0.02, 1.02)
    axes.text(0.03, 0.93, f"ECE {error:.3f}", transform=axes.transAxes, color=INK, va="top")
    axes.set_title(state, loc="left")
    left, width = bar_places(bins)
    share = column(bins, "count") / column(bins, "count").sum()
    below.bar(left, share, width, align="edge", color=tint)
    # The row shares its y axis, which an explicit limit freezes: it may only grow.
    below.set_ylim(0, max(below.get_ylim()[1] if not first else 0.0, 1.05 * float(share.max())))
    below.yaxis.set_major_locator(MaxNLocator(1))
    below.grid(False)
    below.set_xlabel("confidence")
    if first:
        axes.set_ylabel("accuracy")
        below.set_ylabel("share")


def reliability_pictures(evaluation: Path) -> dict[str, bytes]:
    """Returns a PNG of each reliability diagram of an evaluation, by suite."""
    record = read_json(evaluation) or {}
    pictures = {}
    for suite, bins in (record.get("reliability") or {}).items():
        figure = reliability_figure({f"{suite}, step {record['step']}": bins})
        if figure is not None:
            pictures[str(suite)] = Picture(str(suite), str(suite), figure).png()
    return pictures
