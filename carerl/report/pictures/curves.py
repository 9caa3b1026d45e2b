"""Draws the curves of a run's report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from carerl.loss.strata import EDGES
from carerl.metrics.table import METRICS, metric_line, names_in, shown_in, suite_label, views_of
from carerl.report.pictures.svg import CARD, DASHED, LINE, MUTED, PowersOfTen, colour, style, to_svg
from carerl.report.smoothing import running_median, smooth
from carerl.runs.jsonl import series

SMOOTH_FROM = 60  # rows from which on a curve is drawn smoothed over its raw course
SIZE = (5.6, 2.75)  # inches
DOTTED = (0, (1, 2))


@dataclass(frozen=True, slots=True)
class Panel:
    """Describes one picture: the metrics that the table shows in ``curves/NAME``; those that a run lacks are left out.

    Those in ``reference/NAME`` are drawn muted and dashed: what the others are read against. ``biased``: the values
    depend on how many questions were asked, so that points on fewer questions are drawn apart.
    """

    name: str
    title: str
    note: str = ""
    log: bool = False
    unit: bool = False  # values lie between 0 and 1: show all of it
    biased: bool = False

    def lines(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Returns (metric, label) in the order drawn. ``names``: those that a run logged; a line of several metrics
        stands for those among them."""
        return _lines(f"curves/{self.name}", names)

    def references(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Returns the same of what the lines are read against."""
        return _lines(f"reference/{self.name}", names)


def _lines(view: str, names: Collection[str]) -> list[tuple[str, str]]:
    """Returns metrics with their labels; of a line of all suites the suite is the label, as the panel says what it
    is."""
    lines = [metric_line(name) for name in names_in(view, names)]
    return [
        (line.name, suite_label(line.suite) if line.suite and line.name not in METRICS else line.label_in(view))
        for line in lines
    ]


PANELS: tuple[Panel, ...] = (
    Panel(
        "loss",
        "Cross-entropy",
        "Nats. kind: finetune: mean over tokens; the tiny base: mean over tokens of names plus that of questions; RL: "
        "mean over decisions, times decision.weight.",
    ),
    Panel(
        "reward",
        "Reward and rollout accuracy",
        "Means over the step's samples, on training questions.",
        unit=True,
    ),
    Panel(
        "evaluation",
        "Evaluation accuracy",
        "Evaluations between start and end may use fewer questions.",
        unit=True,
    ),
    Panel("decisions", "Decisions", "The tokens that name an option, of the step's samples.", unit=True),
    Panel("decision_loss", "Cross-entropy at decisions", "Nats per decision, without decision.weight."),
    Panel("ece", "Expected calibration error", "Less is better.", biased=True),
    Panel("f1", "Recognising the unknowable", "More is better.", unit=True),
    Panel(
        "step_entropy_gap",
        "Entropy of wrong steps less that of right ones",
        "Nats per token, evaluated responses. Above 0 the model is less sure where it goes wrong.",
    ),
    Panel("step_ece", "ECE of steps", "A step's confidence, 1 − entropy / log V, against its verdict.", biased=True),
    Panel("step_auroc", "AUROC of steps", "Of a step's confidence for its verdict; .5 tells nothing.", unit=True),
    Panel("chosen_logprob", "Log-prob of the chosen steps", "Nats per step, of the pairs of each round."),
    Panel("preference_loss", "Preference loss", "Nats, means over a round's optimizer steps."),
    Panel("preference_logprobs", "Log-probs of chosen and rejected steps", "Nats per step, before each update."),
    Panel("entropy", "Entropy", "Nats per response token."),
    Panel("certainty", "Self-certainty", "Nats per response token; 0 for a policy that is uniform."),
    Panel("divergence", "Divergence to the reference", "Nats per response token."),
    Panel(
        "entropy_split",
        "Entropy of right and wrong responses",
        "Nats per response token, training rollouts.",
    ),
    Panel(
        "divergence_split",
        "Divergence of right and wrong responses",
        "Reverse KL, nats per response token, training rollouts.",
    ),
    Panel(
        "coefficient_split",
        "What the penalty asks, by confidence",
        "Mean size of the coefficient of a sampled token. Confidence: the share of the group with the same answer.",
    ),
    Panel("anchor", "Divergence to the reference on anchors", "Nats per token of prompts that no reward sees."),
    Panel("gain", "Progressive gain", "1: every step makes the response's own answer likelier; -1: less likely."),
    Panel("gain_auroc", "AUROC of gains", "Of a gain for its answer being right; .5 tells nothing.", unit=True),
    Panel("traces", "Cross-entropy of traces", "Nats a token, before any weight."),
    Panel("weights", "Weights of responses and traces", "Means over the step, before distillation.weight."),
    Panel("strengths", "Adapted strengths", "What multiplies the penalty and the mean entropy."),
    Panel("mismatch", "Engine against learner", "Absolute difference of log-probs, nats; logarithmic.", log=True),
    Panel(
        "health",
        "Responses and groups",
        "Fractions of all that was sampled. A group of one reward has no advantage to learn from.",
        unit=True,
    ),
    Panel("gradient", "Gradient norm", "Global norm; of a part of the loss alone, in the first minibatch of a step."),
)


def panels() -> list[Panel]:
    """Returns all pictures of curves: :data:`PANELS`, and one for each other name that metrics are shown in."""
    known = {panel.name for panel in PANELS}
    return [*PANELS, *(Panel(name, name.capitalize()) for name in views_of("curves") if name not in known)]


def curve(panel: Panel, rows: list[dict[str, float]], fewer: Collection[int] = ()) -> str | None:
    """Returns the panel as SVG, or None if the run lacks all its metrics.

    ``fewer``: the steps whose evaluation asked fewer questions than others. In a biased panel their points are
    hollow and have a light line of their own.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    found = [(label, *series(rows, metric)) for metric, label in panel.lines(names)]
    drawn = [(label, steps, values) for label, steps, values in found if steps]
    if panel.log:  # a difference of exactly 0 has no place on a logarithmic axis
        drawn = [(label, steps, values) for label, steps, values in drawn if max(values) > 0]
    if not drawn:
        return None
    apart = sorted(fewer) if panel.biased else []
    with style():
        figure, axes = _figure()
        for index, (label, steps, values) in enumerate(drawn):
            # a second curve that lies on the first stays visible as a dashed one
            stroke = {"color": colour(index), "linestyle": DASHED if index % 2 else "solid", "marker": "o"}
            _line(axes, label, steps, values, stroke, apart, panel.log)
        for metric, label in panel.references(names):
            _line(axes, label, *series(rows, metric), {"color": MUTED, "linestyle": DASHED, "linewidth": 1.2}, apart)
        if panel.log:
            _logarithmic(axes)
        elif panel.unit:
            axes.set_ylim(-0.03, 1.03)
        else:
            low, high = axes.get_ylim()
            axes.set_ylim(min(0.0, low), high if high > 0 else 1.0)
        _finish(axes)
        return to_svg(figure, panel.name, panel.title)


def coefficient_histogram(rows: list[dict[str, float]]) -> str | None:
    """Draws shares of tokens by the penalty's signed coefficient, at the start and at the end; None without a
    penalty."""
    names = names_in("parts/coefficient_bins")
    found = [[row[name] for name in names] for row in rows if all(name in row for name in names)]
    if not found:
        return None
    tenth = max(1, len(found) // 10)
    states = {"first steps": found[:tenth], "last steps": found[-tenth:]}
    if len(found) == 1:
        del states["first steps"]
    with style():
        figure, axes = _figure()
        places, width = np.arange(len(names)), 0.8 / len(states)
        for index, (label, shares) in enumerate(states.items()):
            lefts = places + (index - len(states) / 2) * width
            axes.bar(lefts, np.mean(shares, axis=0), width, align="edge", color=colour(index), label=label)
        _logarithmic(axes)  # what a penalty is about are its rare tokens
        axes.set_ylim(5e-5, 1.5)
        _finish(axes)
        axes.set_xlabel("coefficient")
        axes.set_xticks(places[1:] - 0.5, [f"{edge:g}".replace("-", "\N{MINUS SIGN}") for edge in EDGES])
        return to_svg(figure, "coefficient-histogram", "Shares of sampled tokens by the penalty's coefficient")


def time_split(rows: list[dict[str, float]]) -> str | None:
    """Draws the seconds of a step, stacked by phase: a running median, as single steps jump."""
    timed = [row for row in rows if "time/step" in row]
    if not timed:
        return None
    steps = np.asarray([row["step"] for row in timed])
    parts = {part.kind: np.asarray([row.get(part.name, 0.0) for row in timed]) for part in shown_in("time")}
    total = np.asarray([row["time/step"] for row in timed])
    parts["other"] = np.maximum(total - sum(parts.values()), 0.0)
    shown = {name: running_median(values) for name, values in parts.items() if values.any()}
    with style():
        figure, axes = _figure()
        colours = [MUTED if name == "other" else colour(i) for i, name in enumerate(shown)]
        axes.stackplot(steps, *shown.values(), labels=list(shown), colors=colours, alpha=0.75, linewidth=0)
        axes.set_ylim(0, None)
        _finish(axes)
        return to_svg(figure, "time", "Seconds per step, split by what they were spent on")


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.115, right=0.985, top=0.88, bottom=0.155)
    return figure, axes


def _logarithmic(axes: Any) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PowersOfTen())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _finish(axes: Any) -> None:
    axes.set_xlabel("step")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
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


def _line(
    axes: Any,
    label: str,
    steps: Sequence[int],
    values: Sequence[float],
    stroke: Mapping[str, Any],
    apart: Sequence[int] = (),
    log: bool = False,
) -> None:
    """Draws values over steps in the look of ``stroke``; points of the steps ``apart`` are lighter and not named."""
    x, y = np.asarray(steps), np.asarray(values, dtype=np.float64)
    if log:
        y = np.where(y > 0, y, np.nan)
    light = np.isin(x, apart)
    if light.any():
        look = {"linestyle": DOTTED, "linewidth": 1.2, "alpha": 0.7, "markerfacecolor": CARD}
        axes.plot(x[light], y[light], **{**stroke, **look}, markersize=3.5)
    x, y = x[~light], y[~light]
    if len(y) >= SMOOTH_FROM:
        axes.plot(x, y, color=stroke["color"], linewidth=0.8, alpha=0.3)
        axes.plot(x, smooth(y), color=stroke["color"], linestyle=stroke["linestyle"], label=label)
    elif len(y):
        axes.plot(x, y, **stroke, label=label, markersize=3.5)
