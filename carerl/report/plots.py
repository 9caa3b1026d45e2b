"""The curves and reliability diagrams of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from carerl.report.jsonl import series
from carerl.report.metric_table import TIME_PARTS
from carerl.report.svg import CARD, INK, LINE, MUTED, colour, style, to_svg

SMOOTH_FROM = 60  # rows from which on a curve is drawn smoothed over its raw course
SIZE = (5.6, 2.75)  # inches


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: ``lines`` are (metric, label); those that a run lacks are left out."""

    name: str
    title: str
    lines: tuple[tuple[str, str], ...]
    note: str = ""
    log: bool = False
    unit: bool = False  # values lie between 0 and 1: show all of it


PANELS: tuple[Panel, ...] = (
    Panel(
        "loss",
        "Cross-entropy",
        (("train/ce_loss", "cross-entropy"),),
        "Nats per token of the corpus, each family averaged.",
    ),
    Panel(
        "reward",
        "Reward and rollout accuracy",
        (("rollout/reward", "reward"), ("rollout/accuracy", "accuracy")),
        "Means over the step's samples, on training questions.",
        unit=True,
    ),
    Panel(
        "evaluation",
        "Evaluation accuracy",
        (("eval/accuracy", "accuracy"), ("eval/maj", "maj@N")),
        "Evaluations between start and end may use fewer questions.",
        unit=True,
    ),
    Panel(
        "ece",
        "Expected calibration error",
        (("calibration/facts_ece", "FACTS"), ("calibration/answer_ece", "answer token")),
        "Less is better.",
    ),
    Panel(
        "f1",
        "Recognising the unknowable",
        (("calibration/unknowable_f1", "UNKNOWABLE F1"),),
        "More is better.",
        unit=True,
    ),
    Panel(
        "entropy",
        "Entropy",
        (("train/entropy", "training rollouts"), ("eval/entropy", "evaluation")),
        "Nats per response token.",
    ),
    Panel(
        "divergence",
        "Divergence to the reference",
        (("regularizer/reverse_kl", "reverse KL"), ("regularizer/value", "the regularizer's own")),
        "Nats per response token.",
    ),
    Panel(
        "mismatch",
        "Engine against learner",
        (
            ("rollout/mismatch_mean", "rollouts, mean"),
            ("rollout/mismatch_max", "rollouts, max"),
            ("sync/probe_max", "probe after sync, max"),
        ),
        "Absolute difference of log-probs, nats; logarithmic.",
        log=True,
    ),
    Panel(
        "health",
        "Responses and groups",
        (
            ("rollout/truncated_fraction", "truncated"),
            ("rollout/unparsed_fraction", "unparsed"),
            ("rollout/zero_variance_fraction", "groups of one reward"),
        ),
        "Fractions. A group of one reward has no advantage to learn from.",
        unit=True,
    ),
    Panel("gradient", "Gradient norm", (("train/grad_norm", "before clipping"),), "Global norm."),
)


def curve(panel: Panel, rows: list[dict[str, float]]) -> str | None:
    """The panel as SVG, or None when the run has none of its metrics."""
    found = [(label, *series(rows, metric)) for metric, label in panel.lines]
    drawn = [(label, steps, values) for label, steps, values in found if steps]
    if panel.log:  # a difference of exactly 0 has no place on a logarithmic axis
        drawn = [(label, steps, values) for label, steps, values in drawn if max(values) > 0]
    if not drawn:
        return None
    with style():
        figure, axes = _figure()
        for index, (label, steps, values) in enumerate(drawn):
            _line(axes, index, label, np.asarray(steps), np.asarray(values), panel.log)
        if panel.log:
            axes.set_yscale("log")
        elif panel.unit:
            axes.set_ylim(-0.03, 1.03)
        else:
            low, high = axes.get_ylim()
            axes.set_ylim(min(0.0, low), high if high > 0 else 1.0)
        _finish(axes)
        return to_svg(figure, panel.name, panel.title)


def time_split(rows: list[dict[str, float]]) -> str | None:
    """Seconds of a step, stacked by what they were spent on; a running median, as single steps jump."""
    timed = [row for row in rows if "time/step" in row]
    if not timed:
        return None
    steps = np.asarray([row["step"] for row in timed])
    parts = {name: np.asarray([row.get(f"time/{name}", 0.0) for row in timed]) for name in TIME_PARTS}
    total = np.asarray([row["time/step"] for row in timed])
    parts["other"] = np.maximum(total - sum(parts.values()), 0.0)
    shown = {name: _running_median(values) for name, values in parts.items() if values.any()}
    with style():
        figure, axes = _figure()
        colours = [MUTED if name == "other" else colour(i) for i, name in enumerate(shown)]
        axes.stackplot(steps, *shown.values(), labels=list(shown), colors=colours, alpha=0.75, linewidth=0)
        axes.set_ylim(0, None)
        _finish(axes)
        return to_svg(figure, "time", "Seconds per step, split by what they were spent on")


def reliability(name: str, states: Mapping[str, Sequence[Mapping[str, float]]]) -> str | None:
    """Reliability diagrams side by side, one per state (``base``, ``final``).

    Each bin is a mapping with ``low high confidence accuracy count``. A dot lies at the mean confidence
    and the accuracy of its bin, its area grows with the bin's share; the bar below is that share.
    """
    states = {state: [b for b in bins if b.get("count")] for state, bins in states.items()}
    states = {state: bins for state, bins in states.items() if bins}
    if not states:
        return None
    with style():
        figure = Figure(figsize=(SIZE[0], 3.3))
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
        return to_svg(figure, f"reliability-{name.replace('/', '-')}", f"Reliability of {name}: {', '.join(states)}")


def bins_ece(bins: Sequence[Mapping[str, float]]) -> float:
    """Expected calibration error of the bins: the count-weighted mean of |confidence − accuracy|."""
    total = sum(b["count"] for b in bins)
    gaps = sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins if b["count"])
    return gaps / total if total else float("nan")


def _reliability_axes(
    axes: Any, below: Any, state: str, bins: Sequence[Mapping[str, float]], tint: str, first: bool
) -> None:
    confidence = np.asarray([b["confidence"] for b in bins])
    accuracy = np.asarray([b["accuracy"] for b in bins])
    share = np.asarray([b["count"] for b in bins], dtype=float)
    share /= share.sum()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.vlines(confidence, np.minimum(confidence, accuracy), np.maximum(confidence, accuracy), color=tint, alpha=0.5)
    axes.plot(confidence, accuracy, color=tint, linewidth=1.2, alpha=0.6)
    axes.scatter(confidence, accuracy, s=14 + 160 * share, color=tint, edgecolor=CARD, linewidth=0.8, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.text(0.03, 0.93, f"ECE {bins_ece(bins):.3f}", transform=axes.transAxes, color=INK, va="top")
    axes.set_title(state, loc="left")
    low = np.asarray([b["low"] for b in bins])
    width = np.asarray([b["high"] for b in bins]) - low
    # bins of unique vote shares have no width: draw those as thin bars at their confidence
    thin = width <= 1e-9
    below.bar(
        np.where(thin, confidence - 0.012, low),
        share,
        np.where(thin, 0.024, width * 0.92),
        align="edge",
        color=tint,
    )
    # The row shares its y axis, which an explicit limit freezes: it may only grow.
    below.set_ylim(0, max(below.get_ylim()[1] if not first else 0.0, 1.05 * float(share.max())))
    below.yaxis.set_major_locator(MaxNLocator(1))
    below.grid(False)
    below.set_xlabel("confidence")
    for side in (axes, below):
        side.tick_params(length=0)
    if first:
        axes.set_ylabel("accuracy")
        below.set_ylabel("share")


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.115, right=0.985, top=0.88, bottom=0.155)
    return figure, axes


def _finish(axes: Any) -> None:
    axes.set_xlabel("step")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(LINE)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        ncols=6,
        borderpad=0.2,
        handlelength=1.1,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def _line(axes: Any, index: int, label: str, steps: NDArray[Any], values: NDArray[np.float64], log: bool) -> None:
    if log:
        values = np.where(values > 0, values, np.nan)
    # a second curve that lies on the first stays visible as a dashed one
    dashes = (0, (3, 2)) if index % 2 else "solid"
    if len(values) >= SMOOTH_FROM:
        axes.plot(steps, values, color=colour(index), linewidth=0.8, alpha=0.3)
        axes.plot(steps, _smooth(values), color=colour(index), label=label, linestyle=dashes)
    else:
        axes.plot(steps, values, color=colour(index), label=label, linestyle=dashes, marker="o", markersize=3.5)


def _windows(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    half = max(1, len(values) // 40)
    return [values[max(0, i - half) : i + half + 1] for i in range(len(values))]


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centred running mean over a twentieth of the run; shorter at the ends, so it keeps its length."""
    means = [np.nan if np.isnan(window).all() else float(np.nanmean(window)) for window in _windows(values)]
    return np.asarray(means)


def _running_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray([float(np.median(window)) for window in _windows(values)])
