"""The table of metrics and what reads it: lookups, the order of columns, and numbers as people read them.

A name is ``group/metric``. ``{suite}`` in it stands for any suite, ``{n}`` for any number: ``eval/{suite}/pass@{n}`` is
the line of ``eval/gsm8k/pass@16``. A metric without a line is still written to metrics.jsonl; it is shown nowhere.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

GROUPS: dict[str, str] = {
    "train": "the update of the policy",
    "rollout": "what was sampled to train on",
    "round": "what a round of preferences consists of",
    "decision": "the tokens that name an option, in training",
    "regularizer": "divergence to the reference, and the penalty",
    "anchor": "prompts that no reward sees, held to the reference",
    "gain": "whether a response's steps strengthen its answer, in training",
    "distillation": "what traces and responses weigh, in training",
    "preference": "pairs of steps, in training",
    "eval": "evaluations: right or wrong",
    "calibration": "evaluations: whether confidence can be believed",
    "decode": "methods of inference, by suite",
    "system": "memory",
    "time": "seconds, and rates",
    "sync": "from learner to engines",
}
VALIDATION = "validation"  # the suite of questions held out of the training set, to choose by and never to report
STEP = "step"  # the axis of every metric: the loop's step, 0 before the first update

# The places that ``Metric.shown`` can name; of one that ends in a slash, any name may follow.
VIEWS: dict[str, str] = {
    "step": "the line of a step in displays",
    "time": "the parts of a step's time",
    "headline": "what displays and comparisons have room for",
    "summary": "a run's own table of its evaluations",
    "accuracy": "the first of these that a run has is its accuracy",
    "ece": "the first of these that a run has is its calibration error",
    "abstention": "the first of these that a run has says how well it knows what it does not know",
    "verdict": "the sentence at the top of a run's report",
    "sweep": "the line of a finished cell of a sweep",
    "frontier": "comparisons: pictures against accuracy, in this order",
    "gap": "comparisons: the share of the baseline's loss that is closed",
    "floors": "comparisons: a note says what a perfect model scores",
    "suites": "comparisons: columns of every suite",
    "overall": "comparisons of suites: columns beside those",
    "decisions": "comparisons: the decisions of every suite, in domain and out of it",
    "evaluation": "rows of an evaluation's table, suites side by side",
    "column": "the label in a table of one suite alone",
    "decoding": "columns of the table of methods of inference",
    "choose": "what checkpoint.best can choose by",
    "strata": "split by the loss into right and wrong, and by confidence",
    "parts/": "what such a split, or a histogram, consists of",
    "curves/": "a picture of the run's report, by its name; a new name makes a picture of its own",
    "reference/": "the same picture, as the muted line that the others are read against",
    "workspace/": "a section of the W&B workspace; a new name makes a section of its own",
}
PARTS = {"suite": r"[^/]+", "method": r"[^/]+", "n": r"\d+"}  # of names: what a part in braces matches


class At(NamedTuple):
    """A metric's place in a view: smaller ranks first, equal ones in the order of the table. ``label``: what it is
    called there, its own label where this is empty."""

    rank: int = 0
    label: str = ""


@dataclass(frozen=True)
class Metric:
    """A line of the table. ``label`` and ``short`` (at most 10 characters) may hold ``{suite}``, ``{method}`` and
    ``{n}`` as the name does; without a label the metric is called by its name.

    ``unit``: as a reader says it; ``1`` for a pure number, ``share`` for one between 0 and 1. ``better``: +1 more is
    better, -1 less is better, 0 neither. ``digits``: decimals in tables. ``note``: a sentence under tables whose label
    does not explain itself. ``shown``: the views that have it. ``biased``: an error of calibration, which is higher
    on fewer questions; its interval is that of the debiased estimate. ``estimate``: makes the metric's value and
    interval (a :class:`carerl.calibration.Estimate`, or None) from the rows of the suite's questions, of all questions
    where the name has no suite.
    """

    name: str
    unit: str
    meaning: str
    label: str = ""
    short: str = ""
    better: int = 0
    digits: int = 3
    note: str = ""
    biased: bool = False
    shown: Mapping[str, At] = field(default_factory=dict)
    estimate: Callable[[Sequence[Mapping[str, Any]]], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "short", self.short or self.label or self.name.rsplit("/", 1)[-1])
        object.__setattr__(self, "label", self.label or self.name)

    @property
    def share(self) -> bool:
        """True for values between 0 and 1."""
        return self.unit == "share"

    @property
    def is_part(self) -> bool:
        """True for what says something only beside others, such as a bin of a histogram."""
        return bool(self.shown) and all(view.startswith("parts/") for view in self.shown)

    @property
    def template(self) -> bool:
        """True for a line of several metrics, with a part of the name in braces."""
        return "{" in self.name

    @property
    def suite(self) -> str:
        """The suite in the name; empty where there is none."""
        return _suite_and_line(self.name)[0]

    @property
    def kind(self) -> str:
        """The last part of the name: ``ece`` of ``calibration/gsm8k/ece``."""
        return self.name.rsplit("/", 1)[-1]

    def label_in(self, view: str) -> str:
        """Returns what the metric is called in a view."""
        return self.shown.get(view, At()).label or self.label

    def named(self, name: str) -> Metric | None:
        """Returns the line of ``name``, with what stands in braces filled in; None if this is not its line."""
        match = _pattern(self.name).fullmatch(name)
        if match is None:
            return None
        parts = match.groupdict()
        if "suite" in parts:
            parts["suite"] = suite_label(parts["suite"])
        label = name if self.label == self.name else self.label.format(**parts)
        return replace(self, name=name, label=label, short=self.short.format(**parts))


METRICS: dict[str, Metric] = {}  # filled by declare
SUITE_LABELS: dict[str, str] = {}  # suite -> what people call it, in the order of tables; filled by tasks


def declare(*metrics: Metric) -> None:
    """Adds lines to the table. Raises ValueError for a view that does not exist, and for a second line of one name that
    says something else."""
    for metric in metrics:
        for view in metric.shown:
            group, slash, _ = view.partition("/")
            if f"{group}{slash}" not in VIEWS:
                raise ValueError(f"metric {metric.name}: nothing is shown in {view!r}; there are {', '.join(VIEWS)}")
        if METRICS.setdefault(metric.name, metric) != metric:
            raise ValueError(f"metric {metric.name} is declared already, with other words; give this one another name")


def groups() -> list[str]:
    """Returns what names begin with: :data:`GROUPS`, and those that a plugin's metrics have instead."""
    return list(dict.fromkeys([*GROUPS, *(name.split("/")[0] for name in METRICS)]))


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name)
    for part, pattern in PARTS.items():
        text = text.replace(rf"\{{{part}\}}", f"(?P<{part}>{pattern})")
    return re.compile(text)


def find_metric(name: str) -> Metric | None:
    """Returns the line of a logged name, None for a name that is not declared.

    >>> find_metric("train/lr").meaning, find_metric("train/entropie")
    ('learning rate', None)
    """
    if name in METRICS:
        return METRICS[name]
    found = (metric.named(name) for metric in METRICS.values() if metric.template)
    return next((metric for metric in found if metric is not None), None)


def metric_line(name: str) -> Metric:
    """Returns the line of ``name``; for a name that is not declared, a plain one made from the name itself.

    >>> metric_line("rollout/reward").label, metric_line("my/own").label, metric_line("my/own").short
    ('reward', 'my/own', 'own')
    """
    return find_metric(name) or Metric(name, "1", name)


def shown_in(view: str) -> list[Metric]:
    """Returns the lines that a view shows, in its order.

    >>> [metric.short for metric in shown_in("step")][:3]
    ['reward', 'accuracy', 'divergence']
    """
    found = [metric for metric in METRICS.values() if view in metric.shown]
    return sorted(found, key=lambda metric: metric.shown[view].rank)


def views_of(group: str) -> list[str]:
    """Returns the names behind ``group/`` that metrics are shown in, in the order of the table."""
    views = (view.partition("/") for metric in METRICS.values() for view in metric.shown)
    return list(dict.fromkeys(name for first, slash, name in views if slash and first == group))


def names_in(view: str, names: Collection[str] = ()) -> list[str]:
    """Returns the names that a view shows, in its order. Of a line of several metrics, those among ``names``."""
    found: list[str] = []
    for metric in shown_in(view):
        found += sorted(n for n in names if metric.named(n)) if metric.template else [metric.name]
    return found


def suite_column(kind: str) -> Metric:
    """Returns the line of a suite's metric by its last part. Raises KeyError where none has a label for a column."""
    return {metric.kind: metric for metric in shown_in("column")}[kind]


def suite_label(suite: str) -> str:
    """Returns what people call a suite."""
    return SUITE_LABELS.get(suite, suite)


# The columns of the CARE-RFT paper's table; of several names the first that there is.
PAPER_COLUMNS: tuple[tuple[str, ...], ...] = (
    ("eval/math500/accuracy", "eval/math_test/accuracy"),
    ("eval/gsm8k/accuracy",),
    ("eval/selfaware/f1",),
    ("eval/truthfulqa/accuracy",),
)
PAPER_ECE = "truthfulqa"  # the suite of its last column; where it was not asked, the first that was


def by_suite(names: Iterable[str]) -> bool:
    """Returns True if metrics are reported suite by suite, as those of text benchmarks are, which have an accuracy of
    their own. The tiny world's metrics have plain names, but for those of validation and of decisions.

    >>> by_suite(["eval/gsm8k/accuracy"]), by_suite(["eval/accuracy", "eval/validation/accuracy", "eval/q3/swap_flips"])
    (True, False)
    """
    places = map(_suite_and_line, names)
    own = ("eval/{suite}/accuracy", "eval/{suite}/answered")
    return any(line in own and suite != VALIDATION for suite, line in places)


def paper_columns(names: Collection[str]) -> list[str]:
    """Returns the columns of the paper's table that ``names`` have; empty unless one is of a text benchmark."""
    if not by_suite(names):
        return []
    eces = tuple(f"calibration/{suite}/ece" for suite in (PAPER_ECE, *SUITE_LABELS))
    chosen = (next((name for name in choice if name in names), None) for choice in (*PAPER_COLUMNS, eces))
    return [name for name in chosen if name is not None]


def headline_columns(names: Collection[str]) -> list[str]:
    """Returns what a comparison of runs with these metrics shows: the paper's columns and what else there is of text
    benchmarks, metric by metric; without any benchmark, the view ``headline``, and what there is of suites."""
    whole = by_suite(names)
    first = paper_columns(names) if whole else [name for name in names_in("headline") if name in names]
    order = [metric.name for metric in shown_in("suites")]
    known = list(SUITE_LABELS)

    def place(name: str) -> tuple[int, int, str]:
        suite, line = _suite_and_line(name)
        return order.index(line), known.index(suite) if suite in known else len(known), suite

    more = sorted((name for name in names if _suite_and_line(name)[1] in order), key=place)
    overall = [name for name in names_in("overall") if name in names]
    return list(dict.fromkeys([*first, *more, *overall]))


def summary_rows(base: Mapping[str, float], final: Mapping[str, float]) -> list[tuple[str, float | None, float | None]]:
    """Returns ``(metric, before, after)`` for the evaluation metrics that either has: the view ``summary``, then those
    of text benchmarks."""
    there = {**base, **final}
    names = names_in("summary", there)
    names += [name for name in headline_columns(there) if name not in names]
    return [(name, base.get(name), final.get(name)) for name in names if name in there]


def first_in(view: str, columns: Iterable[str]) -> str:
    """Returns the first of a view's metrics that ``columns`` have, by rank and then in their order; where they have
    none, the view's first that is not of a suite."""
    lines = shown_in(view)
    found = [(metric.shown[view].rank, name) for name in columns for metric in lines if metric.named(name)]
    if found:
        return min(found, key=lambda pair: pair[0])[1]
    return next((metric.name for metric in lines if not metric.template), "")


def accuracy_metric(columns: Iterable[str]) -> str:
    """Returns the accuracy that a task reports first."""
    return first_in("accuracy", columns)


def ece_metric(columns: Iterable[str]) -> str:
    """Returns the calibration error that a task reports first."""
    return first_in("ece", columns)


def abstention_metric(columns: Collection[str]) -> str:
    """Returns the F1 of saying that one does not know: SelfAware's, or what a task has instead."""
    return "eval/selfaware/f1" if "eval/selfaware/f1" in columns else first_in("abstention", columns)


def _suite_and_line(name: str) -> tuple[str, str]:
    """Returns suite and line of a suite's metric: gsm8k and ``eval/{suite}/maj`` of ``eval/gsm8k/maj``. Both are empty
    for a name without a suite."""
    parts = name.split("/")
    return (parts[1], f"{parts[0]}/{{suite}}/{parts[2]}") if len(parts) == 3 else ("", "")


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Writes a number with fixed decimals; an en dash for a value that is missing or not finite.

    >>> format_number(0.95142), format_number(None), format_number(-0.0306, sign=True)
    ('0.951', '–', '-0.031')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text.replace("-", "", 1) if float(text.replace(",", "")) == 0 and text.startswith("-") else text


def compact_number(value: float | None) -> str:
    """Writes three significant figures in little room, for a live display.

    >>> compact_number(0.8125), compact_number(1.2e-7), compact_number(18234.0), compact_number(0.0)
    ('0.812', '1.2e-07', '18,234', '0.000')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    if size >= 0.001 or size == 0:
        return f"{value:.3f}"
    return f"{value:.1e}"


def clock(seconds: float | None) -> str:
    """Writes seconds as ``h:mm:ss``, or ``m:ss`` under an hour.

    >>> clock(72.4), clock(3725), clock(None)
    ('1:12', '1:02:05', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
