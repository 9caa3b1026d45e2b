"""The rows of a comparison: runs grouped over seeds, with means, intervals and labels.

Runs belong to one group when recipe and settings agree, seed aside. A cell is the mean over the group's
seeds of a metric of the final evaluation, ± the half-width of its 95 % Student interval (n − 1 degrees). A
single run has the interval over questions of its evaluation instead, which says nothing about other seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carerl.calibration import t_half_width
from carerl.report.posthoc import Fit, fit_label
from carerl.runs.find import Run
from carerl.runs.sweep_file import Cell as SweptCell

LEVEL = 0.05  # of a star


@dataclass(frozen=True, slots=True)
class Cell:
    """Holds one metric of one group. ``values`` maps a seed to its number; ``half`` is None below two seeds.
    ``questions`` is the interval over questions, of a single run only.

    ``difference`` is the mean of row − baseline over the ``pairs`` seeds that both have, None below two.
    ``bound`` is its one-sided 95 % bound: a lower one where more is better, an upper one where less is, None
    where neither. ``p`` is the two-sided p-value, ``p_holm`` the corrected one; None where nothing was tested.
    """

    values: Mapping[int, float]
    mean: float
    half: float | None
    pairs: int = 0
    difference: float | None = None
    bound: float | None = None
    p: float | None = None
    p_holm: float | None = None
    questions: tuple[float, float] | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends, over seeds or over questions; None where there is neither."""
        return self.questions if self.half is None else (self.mean - self.half, self.mean + self.half)

    @property
    def numbers(self) -> tuple[float, ...]:
        """What a picture of the cell shows: the seeds' values, the mean and the interval's ends."""
        return (*self.values.values(), self.mean, *(self.bounds or ()))

    @property
    def starred(self) -> bool:
        return self.p_holm is not None and self.p_holm < LEVEL


@dataclass(frozen=True, slots=True)
class Row:
    """Holds a group of runs; ``is_base`` marks the rows of the base models before training.

    ``baseline`` is the label of the row that it is compared with. ``gap_closed`` is the share of the baseline's loss in
    ECE that the row avoids, see :func:`carerl.report.compare.pairs.gap_closed`; None where it is not defined. ``asked``
    counts the cells of a sweep that make the row, complete or not; 0 without a sweep. ``calibration`` and ``scaled``
    come from :mod:`carerl.report.compare.calibration`; ``unscaled`` says why nothing was scaled.
    """

    label: str
    short: str
    runs: Sequence[Run]
    cells: Mapping[str, Cell]
    is_base: bool = False
    baseline: str = ""
    gap_closed: float | None = None
    asked: int = 0
    calibration: Mapping[str, Cell] = field(default_factory=dict)
    scaled: Sequence[Scaled] = ()
    unscaled: str = ""

    @property
    def one_a_seed(self) -> list[Run]:
        """One run for each seed, by seed. Several runs can share a seed's base model; the first of them is taken."""
        return [run for _, run in sorted({run.seed: run for run in reversed(self.runs)}.items())]


@dataclass(frozen=True, slots=True)
class Scaled:
    """Holds a row after one scaler of one kind of confidence: the same answers with other confidences. ``fits`` has
    each seed's."""

    fits: Mapping[int, Fit]
    cells: Mapping[str, Cell]

    @property
    def label(self) -> str:
        """What stands behind the row's label."""
        return fit_label(list(self.fits.values()))


class ComparisonError(ValueError):
    """Says what the user can mend: no run was found, or the baseline does not exist."""


def group_rows(runs: Sequence[Run], columns: Sequence[str], cells: Sequence[SweptCell] = ()) -> list[Row]:
    """Returns a row for each group of runs, one run a seed. The unregularised rows come first; rows of one family stand
    together, by beta, alpha and the weight of anchors as numbers. ``cells``: those that the runs' sweeps were asked
    for.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group_key, []).append(run)
    grouped = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    families = list(dict.fromkeys(group[0].family_key for group in grouped))
    asked, methods = Counter(cell.method for cell in cells), {cell.directory: cell.method for cell in cells}
    labels = row_labels(grouped)

    def place(row: Row) -> tuple[Any, ...]:
        run = row.runs[0]
        along = (run.beta or 0.0, run.alpha or 0.0, run.weight or 0.0)
        return run.regularizer != "none", families.index(run.family_key), *along

    rows = [
        Row(
            label,
            short,
            group,
            _cells([(run.seed, run.final) for run in group], columns),
            asked=sum(asked[method] for method in {methods[run.path] for run in group if run.path in methods}),
        )
        for label, short, group in zip(labels, short_labels(labels), grouped, strict=True)
    ]
    return sorted(rows, key=place)


def base_rows(runs: Sequence[Run], columns: Sequence[str]) -> list[Row]:
    """Returns the base models' rows, one per model, task and evaluation. Each seed counts once: the mean over its runs.
    A model that is not trained here is one for all seeds, and its evaluation has a seed of its own: it counts once."""
    models: dict[Any, list[Run]] = {}
    for run in runs:
        if run.base:
            models.setdefault(run.base_key, []).append(run)
    rows = []
    for group in models.values():
        per_seed: dict[int, list[Mapping[str, float]]] = {}
        for run in group:
            per_seed.setdefault(run.seed, []).append(run.base)
        pooled: list[tuple[int, Mapping[str, float]]] = [
            (seed, _mean_metrics(found, columns)) for seed, found in sorted(per_seed.items())
        ]
        others = [other[0].base_settings for other in models.values()]
        label = " · ".join(["base", *differing(group[0].base_settings, others)])
        short = "base" if len(models) == 1 else label
        by_seed = sorted(group, key=lambda run: run.seed)
        if not group[0].settings.get("model.base_recipe"):
            by_seed, pooled = by_seed[:1], [(by_seed[0].seed, by_seed[0].base)]
        rows.append(Row(label, short, by_seed, _cells(pooled, columns), is_base=True))
    return rows


def _cells(results: Sequence[tuple[int, Mapping[str, float]]], columns: Sequence[str]) -> dict[str, Cell]:
    cells = {}
    for name in columns:
        values = {seed: float(metrics[name]) for seed, metrics in results if is_number(metrics.get(name))}
        if values:
            cells[name] = make_cell(values)
    return cells


def make_cell(values: Mapping[int, float], questions: tuple[float, float] | None = None) -> Cell:
    """Returns the cell of a metric's values by seed, with Student's interval from two seeds on."""
    return Cell(values, mean_of(values.values()), seeds_half(values.values()), questions=questions)


def mean_of(values: Iterable[float]) -> float:
    """Returns the mean, summed without rounding on the way."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def seeds_half(values: Iterable[float]) -> float | None:
    """Returns the half-width of the 95 % Student interval of a mean over seeds; None below two of them."""
    numbers = list(values)
    return t_half_width(numbers) if len(numbers) > 1 else None


def _mean_metrics(found: Sequence[Mapping[str, float]], columns: Sequence[str]) -> dict[str, float]:
    means = {}
    for name in columns:
        values = [float(metrics[name]) for metrics in found if is_number(metrics.get(name))]
        if values:
            means[name] = mean_of(values)
    return means


def row_labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Labels each group by its recipe and the settings in which groups of the same recipe differ."""
    labels = []
    for group in groups:
        same = [other[0].settings for other in groups if other[0].recipe == group[0].recipe]
        labels.append(" · ".join([group[0].recipe, *differing(group[0].settings, same)]))
    return labels


def differing(settings: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns ``name=value`` for each setting in which ``others`` do not all agree."""
    names = dict.fromkeys(name for other in others for name in other)
    return [
        f"{name}={settings.get(name, 'unset')}"
        for name in names
        if any(other.get(name) != settings.get(name) for other in others)
    ]


def short_labels(labels: Sequence[str]) -> list[str]:
    """Shortens labels by the part that all recipes end in, as pictures have little room.

    >>> short_labels(["none_grpo_tiny", "care_grpo_tiny · regularizer.estimator=score"])
    ['none', 'care · estimator=score']
    """
    recipes = [label.split(" · ")[0] for label in labels]
    parts = [recipe.split("_") for recipe in recipes]
    shared = 0
    if len(set(recipes)) > 1:
        while all(len(p) > shared + 1 for p in parts) and len({p[-shared - 1] for p in parts}) == 1:
            shared += 1
    shortened = []
    for label, part in zip(labels, parts, strict=True):
        settings = [s.split("=")[0].rsplit(".", 1)[-1] + "=" + s.split("=", 1)[1] for s in label.split(" · ")[1:]]
        shortened.append(" · ".join(["_".join(part[: len(part) - shared]), *settings]))
    return shortened if len(set(shortened)) == len(set(labels)) else list(labels)


def is_number(value: Any) -> bool:
    """Tells whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
