"""Draws methods of inference by what they cost: accuracy over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from carerl.report.pictures.panels import WIDTH, cut_label, legend_on_top, margins
from carerl.report.pictures.svg import CARD, DASHES, SERIES, Picture, colour, style

PANELS_BESIDE = 3  # benchmarks that have room beside each other
HEIGHT = 3.4  # inches of a row of panels


@dataclass(frozen=True, slots=True)
class Line:
    """A method's accuracy over its mean tokens a question, in the order of tokens. ``full``: the point of its whole
    budget of branches, (tokens, accuracy); ``low`` and ``high``: the interval of that accuracy over questions."""

    tokens: Sequence[float]
    accuracy: Sequence[float]
    full: tuple[float, float]
    low: float
    high: float


def accuracy_over_tokens(found: Mapping[str, Mapping[str, Line]]) -> Picture | None:
    """Draws a panel for each suite and a line for each method; a dot marks a method's whole budget, with its interval.
    ``found``: label of a suite -> method -> line. None without any."""
    if not any(found.values()):
        return None
    methods = list(dict.fromkeys(method for lines in found.values() for method in lines))
    columns = min(len(found), PANELS_BESIDE)
    rows = -(-len(found) // columns)
    with style():
        figure = Figure(figsize=(WIDTH, 0.5 + HEIGHT * rows))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (suite, lines) in zip(grid, found.items(), strict=False):
            for method, line in lines.items():
                place = methods.index(method)
                look = {"color": colour(place), "linestyle": DASHES[(place // SERIES) % len(DASHES)]}
                axes.plot(line.tokens, line.accuracy, linewidth=1.7, **look)
                x, y = line.full
                if line.low == line.low:
                    axes.vlines(x, line.low, line.high, color=colour(place), linewidth=1.2, alpha=0.6)
                axes.plot([x], [y], marker="o", markersize=7, markeredgecolor=CARD, color=colour(place))
            axes.set_xlim(left=0)
            axes.set_title(cut_label(suite), loc="left")
            axes.set_xlabel("tokens a question, pruned ones included")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        for axes in grid[len(found) :]:
            axes.set_visible(False)
        handles = [Line2D([], [], color=colour(place), marker="o", linewidth=1.7) for place in range(len(methods))]
        margins(figure, 0.627, 0.114, 0.72, 0.5, wspace=0.2, hspace=0.4)
        legend_on_top(figure, handles, [cut_label(method) for method in methods], 0.047, min(len(methods), 6))
        return Picture("decoding", "Accuracy over tokens a question, a line for each method of inference", figure)
