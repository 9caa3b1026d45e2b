"""Pictures of one evaluation: what became of the samples, and accuracy over coverage, a line for each benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from carerl.calibration.ranking import accuracy_over_coverage, coverage_places
from carerl.report.pictures.curves import reliability_figure
from carerl.report.pictures.svg import CARD, DASHES, INK, MUTED, SERIES, Picture, colour, style
from carerl.runs.files import read_json
from carerl.runs.questions import Asked

WIDTH = 11.4  # inches, of the page's column
WRITTEN = 0.045  # the least share that has room for its number
LABEL_CHARACTERS = 40  # of a benchmark's label in a picture
OUTCOMES: dict[str, str] = {  # in the order of the bars, with their colours
    "correct": colour(2),
    "wrong": colour(1),
    "abstained": colour(0),
    "unparsed": colour(5),
    "truncated": colour(3),
    "invalid": MUTED,
}


def outcome_bars(shares: Mapping[str, Mapping[str, float]]) -> Picture:
    """``shares``: label of a suite -> outcome -> its share of the samples. A bar each, from right to invalid."""
    height = 0.85 + 0.46 * len(shares)
    labels = [_cut(label) for label in shares]
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
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        used = [outcome for outcome in OUTCOMES if any(of_suite.get(outcome, 0) > 0 for of_suite in shares.values())]
        patches = [Patch(color=OUTCOMES[outcome], alpha=0.8) for outcome in used]
        left_inches = 0.35 + 0.082 * longest
        figure.subplots_adjust(
            left=left_inches / WIDTH, right=1 - 0.25 / WIDTH, top=1 - 0.4 / height, bottom=0.32 / height
        )
        figure.legend(
            patches,
            used,
            loc="upper left",
            bbox_to_anchor=(left_inches / WIDTH - 0.008, 1.0),
            ncols=len(used),
            borderaxespad=0.2,
            handlelength=1.0,
            columnspacing=1.6,
            fontsize=9.5,
        )
        return Picture("outcomes", "Outcomes of all samples, a bar for each benchmark", figure)


def _cut(label: str) -> str:
    """A benchmark's label as long as a picture has room for; a file's name can be longer."""
    return label if len(label) <= LABEL_CHARACTERS else f"{label[: LABEL_CHARACTERS - 1]}…"


def coverage_lines(found: Mapping[str, Asked]) -> Picture:
    """``found``: label of a suite -> its questions."""
    height = 4.2
    with style():
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        handles, least = [], 1.0
        for number, asked in enumerate(found.values()):
            values = accuracy_over_coverage(asked.confidence, asked.right)
            dashes = DASHES[(number // SERIES) % len(DASHES)]
            look: dict[str, Any] = {"color": colour(number), "linestyle": dashes, "linewidth": 1.7}
            axes.plot(coverage_places(), values, **look)
            handles.append(Line2D([], [], **look))
            least = min(least, float(values.min()))
        axes.set_ylim(max(0.0, least - 0.12 * (1 - least) - 0.02), 1.01)
        axes.set_xlim(0, 1.005)
        axes.set_xlabel("coverage: share of questions answered, the most confident first")
        axes.set_ylabel("accuracy on those answered")
        axes.yaxis.set_major_locator(MaxNLocator(7))
        axes.tick_params(length=0)
        figure.subplots_adjust(left=0.055, right=0.99, top=1 - 0.42 / height, bottom=0.5 / height)
        figure.legend(
            handles,
            [_cut(label) for label in found],
            loc="upper left",
            bbox_to_anchor=(0.047, 1.0),
            ncols=min(len(found), 6),
            borderaxespad=0.2,
            handlelength=2.0,
            columnspacing=1.6,
            fontsize=9.5,
        )
        return Picture("coverage", "Accuracy over coverage, a line for each benchmark", figure)


def reliability_pictures(evaluation: Path) -> dict[str, bytes]:
    """PNG of each reliability diagram of an evaluation, by suite."""
    record = read_json(evaluation) or {}
    pictures = {}
    for suite, bins in (record.get("reliability") or {}).items():
        figure = reliability_figure({f"{suite}, step {record['step']}": bins})
        if figure is not None:
            pictures[str(suite)] = Picture(str(suite), str(suite), figure).png()
    return pictures
