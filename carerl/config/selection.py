"""``checkpoint.best``: which of a run's models is kept beside its newest, by a metric of the validation suite.

    [max|min] METRIC [subject to METRIC <=|>= NUMBER [and METRIC <=|>= NUMBER ...]]

``accuracy subject to ece <= 0.08`` is the most accurate of the models whose ECE is at most .08. Only metrics of the
suite ``validation``, questions held out of the training set, can be named: what is chosen on a reported test set has
seen it. Where two models are equal the earlier one is chosen, and where none keeps the bounds, none.

[ours] The bounds hold for the figures as measured, without their intervals: on few questions a model may keep them by
luck, so that the chosen one's figures are no estimate of what it would show on other questions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from carerl.config.schema import RunConfig
from carerl.errors import ConfigError, suggestion
from carerl.metrics import Metric
from carerl.metrics.table import shown_in

FIELD = "checkpoint.best"
EXAMPLE = 'checkpoint.best="accuracy subject to ece <= 0.1"'
DECISIONS = frozenset({"argmax_accuracy", "answer_prob_ece_count"})  # only where questions have closed options
_BOUND = re.compile(r"(\S+)\s*(<=|>=)\s*(\S+)")


@dataclass(frozen=True)
class Bound:
    """``metric`` at most, or at least, ``value``."""

    metric: str
    at_most: bool
    value: float

    def holds(self, figure: float) -> bool:
        return figure <= self.value if self.at_most else figure >= self.value

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True)
class Selection:
    """Says what is to be largest (``higher``) or smallest, and what must hold. Metrics by their short names."""

    metric: str
    higher: bool
    bounds: tuple[Bound, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it reads, the objective first."""
        return tuple(dict.fromkeys((self.metric, *(bound.metric for bound in self.bounds))))

    def figures(self, metrics: Mapping[str, float | None]) -> dict[str, float]:
        """Picks the metrics that are read out of an evaluation's, by short name; absent ones are left out."""
        found = {name: metrics.get(full_name(name)) for name in self.names}
        return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}

    def choose(self, evaluations: Mapping[int, Mapping[str, float | None]]) -> int | None:
        """Returns the step of the best of ``evaluations`` (metrics by step); None if none keeps the bounds. One without
        every metric cannot be chosen."""
        best: tuple[float, int] | None = None
        for step, metrics in sorted(evaluations.items()):
            figures = self.figures(metrics)
            if len(figures) == len(self.names) and all(bound.holds(figures[bound.metric]) for bound in self.bounds):
                value = figures[self.metric] if self.higher else -figures[self.metric]
                if best is None or value > best[0]:
                    best = value, step
        return best[1] if best else None


def choices() -> dict[str, Metric]:
    """Returns the metrics of the validation suite that can be chosen by, under their short names."""
    return {metric.kind: metric for metric in shown_in("choose")}


def full_name(metric: str) -> str:
    """Returns ``eval/validation/accuracy`` for ``accuracy``."""
    return choices()[metric].name.replace("{suite}", "validation")


def parse_selection(text: str) -> Selection:
    """Reads a rule of the form in the module's docstring. Raises ConfigError for anything else."""
    head, word, tail = text.strip().partition(" subject to ")
    words = head.split()
    if not words or len(words) > 2 or (len(words) == 2 and words[0] not in ("max", "min")):
        reason = "it begins with the metric to choose by" + ("" if word else ", followed by nothing or `subject to`")
        raise ConfigError(FIELD, text, reason, f"write {EXAMPLE}")
    metric = _metric(text, words[-1])
    higher = choices()[metric].better > 0
    if len(words) == 2 and (words[0] == "max") != higher:
        better = "more" if higher else "less"
        remedy = f"leave {words[0]} out, or bound it: {EXAMPLE}"
        raise ConfigError(FIELD, text, f"{better} {metric} is better, and this would choose the worst", remedy)
    bounds = []
    for part in tail.split(" and ") if word else []:
        match = _BOUND.fullmatch(part.strip())
        if match is None:
            reason = f"{part.strip()!r} is no bound, as in ece <= 0.1"
            raise ConfigError(FIELD, text, reason, f"write {EXAMPLE}")
        name, sign, number = match.groups()
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(FIELD, text, f"{number!r} is not a finite number", f"write {EXAMPLE}")
        bounds.append(Bound(_metric(text, name), sign == "<=", value))
    return Selection(metric, higher, tuple(bounds))


def selection_pairings(c: RunConfig) -> Iterator[ConfigError]:
    """Yields an error for a rule that cannot be read, and for one with nothing to choose by."""
    chosen = c.checkpoint.best
    if not chosen:
        return
    if not c.trains_on_questions:
        yield ConfigError(FIELD, chosen, f"a run of kind {c.kind} has no evaluations to choose by", "leave it out")
        return
    try:
        names = parse_selection(chosen).names
    except ConfigError as error:
        yield error
        names = ()
    if not c.task.has_decisions and (of_decisions := DECISIONS.intersection(names)):
        yield ConfigError(
            FIELD,
            chosen,
            f"{', '.join(sorted(of_decisions))}: task {c.task.name} has no decisions between closed options",
            f"write {EXAMPLE}",
        )
    if c.task.validation_questions == 0:
        yield ConfigError(
            FIELD,
            chosen,
            "a model is chosen by questions held out of the training set, and there are none",
            "write task.validation_questions=200",
        )
    if not c.evaluates:
        yield ConfigError(FIELD, chosen, "the run is never evaluated", f"write evaluation.every={max(1, c.steps // 4)}")


def _metric(text: str, name: str) -> str:
    group, _, rest = name.partition("/")
    suite, _, short = rest.rpartition("/")
    if group in ("eval", "calibration") and suite != "validation":
        raise ConfigError(
            FIELD,
            text,
            f"{name} is measured on questions that are reported: a model chosen by them has seen them",
            f"choose by the validation questions: {EXAMPLE}",
        )
    metric = short if suite == "validation" else name
    known = choices()
    if metric not in known or (suite and not known[metric].name.startswith(f"{group}/")):
        raise ConfigError(FIELD, text, f"{name} is not a metric to choose by", suggestion(metric, known))
    return metric
