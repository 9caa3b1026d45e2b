"""Draws one evaluation: the outcomes of its samples, accuracy over coverage, and how probable decisions were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from carerl.calibration.ranking import accuracy_over_coverage, coverage_places
from carerl.report.pictures.panels import WIDTH, coverage_axes, cut_label, legend_on_top, margins
from carerl.report.pictures.svg import CARD, DASHES, INK, MUTED, SERIES, Picture, colour, style
from carerl.runs.questions import Asked
from carerl.tasks.decided import INNER_EDGES

WRITTEN = 0.045  # the least share that has room for its number
OUTCOMES: dict[str, str] = {  # in the order of the bars, with their colours
    "correct": colour(2),
    "wrong": colour(1),
    "abstained": colour(0),
    "unparsed": colour(5),
    "truncated": colour(3),
    "invalid": MUTED,
}


def outcome_bars(shares: Mapping[str, Mapping[str, float]]) -> Picture:
    """Draws a bar for each suite, from right to invalid. ``shares``: label of a suite -> outcome -> its share of the
    samples."""
    height = 0.85 + 0.46 * len(shares)
    labels = [cut_label(label) for label in shares]
    longest = max(map(len, labels))
    with style():
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        for place, of_suite in enumerate(shares.values()):
            left = 0.0
            for outcome, tint in OUTCOMES.items():
                share = of_suite.get(outcome, 0.0)
                if share <= 0:
                    continue
                axes.barh(place, share, 0.72, left=left, color=tint, alpha=0.8, edgecolor=CARD, linewidth=1)
                if share >= WRITTEN:
                    middle = left + share / 2
                    axes.text(middle, place, f"{100 * share:.0f} %", ha="center", va="center", color=INK, fontsize=9)
                left += share
        axes.set_yticks(range(len(shares)), labels)
        axes.set_ylim(len(shares) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        used = [outcome for outcome in OUTCOMES if any(of_suite.get(outcome, 0) > 0 for of_suite in shares.values())]
        patches = [Patch(color=OUTCOMES[outcome], alpha=0.8) for outcome in used]
        left_inches = 0.35 + 0.082 * longest
        margins(figure, left_inches, 0.25, 0.4, 0.32)
        legend_on_top(figure, patches, used, left_inches / WIDTH - 0.008, len(used), length=1.0)
        return Picture("outcomes", "Outcomes of all samples, a bar for each benchmark", figure)


def decision_bars(shares: Mapping[str, Sequence[float]]) -> Picture:
    """Draws how probable the decisions were, a group of bars for each bin. ``shares``: label of a suite -> the bins of
    :func:`carerl.tasks.decided.histogram`."""
    edges = [0.0, *INNER_EDGES, 1.0]
    width = 0.84 / len(shares)
    with style():
        figure = Figure(figsize=(WIDTH, 2.9))
        axes = figure.subplots()
        for number, of_suite in enumerate(shares.values()):
            places = [k - 0.42 + (number + 0.5) * width for k in range(len(of_suite))]
            axes.bar(places, of_suite, 0.92 * width, color=colour(number), alpha=0.8)
        names = [f"{low:g}–{high:g}".replace("0.", ".") for low, high in pairwise(edges)]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("p(decision), the probability of the option that was named; the last two bins are narrower")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.grid(visible=False, axis="x")
        patches = [Patch(color=colour(number), alpha=0.8) for number in range(len(shares))]
        margins(figure, 0.627, 0.114, 0.42, 0.5)
        legend_on_top(figure, patches, [cut_label(label) for label in shares], 0.047, min(len(shares), 6), length=1.0)
        return Picture("decisions", "Histogram of the probability of the decision, by benchmark", figure)


def coverage_lines(found: Mapping[str, Asked]) -> Picture:
    """Draws accuracy over coverage. ``found``: label of a suite -> its questions."""
    with style():
        figure = Figure(figsize=(WIDTH, 4.2))
        axes = figure.subplots()
        handles, least = [], 1.0
        for number, asked in enumerate(found.values()):
            values = accuracy_over_coverage(asked.confidence, asked.right)
            dashes = DASHES[(number // SERIES) % len(DASHES)]
            look: dict[str, Any] = {"color": colour(number), "linestyle": dashes, "linewidth": 1.7}
            axes.plot(coverage_places(), values, **look)
            handles.append(Line2D([], [], **look))
            least = min(least, float(values.min()))
        coverage_axes(axes, least)
        axes.set_ylabel("accuracy on those answered")
        margins(figure, 0.627, 0.114, 0.42, 0.5)
        legend_on_top(figure, handles, [cut_label(label) for label in found], 0.047, min(len(found), 6))
        return Picture("coverage", "Accuracy over coverage, a line for each benchmark", figure)
