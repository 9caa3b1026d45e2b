"""Parts that several pictures share: margins in inches, a legend on top, axes over coverage, a reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from carerl.report.pictures.svg import CARD, MUTED

WIDTH = 11.4  # inches, of the page's column
LABEL_CHARACTERS = 40  # of a benchmark's label in a picture
FloatArray = NDArray[np.float64]


def margins(figure: Figure, left: float, right: float, top: float, bottom: float, **gaps: float) -> None:
    """Sets the room around a figure's axes, in inches. ``gaps``: matplotlib's wspace and hspace."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height, **gaps
    )


def legend_on_top(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], left: float, columns: int, length: float = 2.0
) -> None:
    """Writes one legend over all axes of a figure. ``left``: share of the width; ``length``: of a handle, in
    letters."""
    figure.legend(
        list(handles),
        list(labels),
        loc="upper left",
        bbox_to_anchor=(left, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=length,
        columnspacing=1.6,
        fontsize=9.5,
    )


def cut_label(label: str) -> str:
    """Cuts a benchmark's label to the room in a picture; a file's name can be longer."""
    return label if len(label) <= LABEL_CHARACTERS else f"{label[: LABEL_CHARACTERS - 1]}…"


def coverage_axes(axes: Any, least: float) -> None:
    """Prepares axes for accuracy over coverage. ``least``: the lowest accuracy on them."""
    axes.set_ylim(max(0.0, least - 0.12 * (1 - least) - 0.02), 1.01)
    axes.set_xlim(0, 1.005)
    axes.set_xlabel("coverage: share of questions answered, the most confident first")
    axes.yaxis.set_major_locator(MaxNLocator(7))


def draw_reliability(axes: Any, bins: Sequence[Mapping[str, float]], tint: str, growth: float) -> float:
    """Draws a dot for each bin at its mean confidence and accuracy, and the diagonal; returns their ECE.

    ``growth``: square points that a dot grows by with the bin's share of the items.
    """
    confidence, accuracy, count = column(bins, "confidence"), column(bins, "accuracy"), column(bins, "count")
    share = count / count.sum()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.vlines(confidence, np.minimum(confidence, accuracy), np.maximum(confidence, accuracy), color=tint, alpha=0.5)
    axes.plot(confidence, accuracy, color=tint, linewidth=1.2, alpha=0.6)
    axes.scatter(confidence, accuracy, s=14 + growth * share, color=tint, edgecolor=CARD, linewidth=0.8, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    return float(share @ np.abs(accuracy - confidence))


def bar_places(bins: Sequence[Mapping[str, float]]) -> tuple[FloatArray, FloatArray]:
    """Returns the left ends and widths of the bins' bars. Bins of single vote shares have no width: they get thin bars
    at their confidence."""
    low = column(bins, "low")
    width = column(bins, "high") - low
    thin = width <= 1e-9
    return np.where(thin, column(bins, "confidence") - 0.012, low), np.where(thin, 0.024, width * 0.92)


def column(bins: Sequence[Mapping[str, float]], name: str) -> FloatArray:
    """Returns one number of every bin: ``low``, ``high``, ``confidence``, ``accuracy`` or ``count``."""
    return np.asarray([one[name] for one in bins], dtype=np.float64)
