"""Families of methods and their frontiers: the numbers behind curves over alpha, beta and the weight of anchors.

Rows of one family agree in every setting but the recipe's name and these three: in the usual sweeps a family is one
algorithm × regularizer × estimator × source of anchors. A curve joins a family's rows in the order of the swept value,
the others held fixed. Nothing here is ever extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from carerl.report.compare.rows import Cell, Row, differing, seeds_half, short_labels

ACCURACY = "eval/accuracy"
DIVERGENCE = "eval/kl_per_sequence"
SYMBOLS = {"beta": "β", "alpha": "α", "weight": "w"}  # of several settings that are swept as often, the first


@dataclass(frozen=True, slots=True)
class Curve:
    """Joins rows in the order of the setting ``along`` (one of :data:`SYMBOLS`, or empty for one row by itself).

    ``name``: the family, and the values of the other settings of which the family has several.
    """

    name: str
    family: int  # its place among the families, and in the page's colours
    along: str
    rows: Sequence[Row]

    def label(self, row: Row) -> str:
        """Returns ``care α=0`` for the first row, ``0.5`` for the next ones; a row by itself has its own label.

        The name at one point is enough, as all points of a curve have its colour and are joined.
        """
        if not self.along:
            return row.short
        value = f"{_position(row, self.along):g}"
        return f"{self.name} {SYMBOLS[self.along]}={value}" if row is self.rows[0] else value


@dataclass(frozen=True, slots=True)
class AtBeta:
    """Holds a row among those of one beta; ``name`` has the family, alpha and the weight of anchors. A beta is weighed
    against the policy term, so only rows of one algorithm are compared."""

    name: str
    family: int
    beta: float
    row: Row

    @property
    def shared_by(self) -> tuple[str, float]:
        return str(self.row.runs[0].settings.get("algorithm.name")), self.beta


@dataclass(frozen=True, slots=True)
class Matched:
    """Holds a curve's metrics at a common value of some axis; without cells, ``absent`` is the reason."""

    name: str
    family: int
    cells: Mapping[str, Cell]
    absent: str = ""


def families(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups rows by family, families in the order of their first rows. Base models belong to no family."""
    found: dict[object, list[Row]] = {}
    for row in rows:
        if not row.is_base:
            found.setdefault(row.runs[0].family_key, []).append(row)
    return list(found.values())


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Returns every family's curves. A family runs along the setting of which it has the most values (of several such
    settings the first of :data:`SYMBOLS`), with a curve for each combination of the others."""
    grouped = families(rows)
    found: list[Curve] = []
    for number, (family, name) in enumerate(zip(grouped, _family_names(grouped), strict=True)):
        counts = {setting: len({_position(row, setting) for row in family}) for setting in SYMBOLS}
        if max(counts.values()) == 1:  # rows of several recipes can agree in all settings
            found += [Curve(row.short, number, "", [row]) for row in family]
            continue
        along = max(counts, key=lambda setting: counts[setting])
        across = [setting for setting, count in counts.items() if setting != along and count > 1]
        curves_of: dict[tuple[float, ...], list[Row]] = {}
        for row in sorted(family, key=lambda row: _position(row, along)):
            curves_of.setdefault(tuple(_position(row, setting) for setting in across), []).append(row)
        for values, members in sorted(curves_of.items()):
            held = [f"{SYMBOLS[setting]}={value:g}" for setting, value in zip(across, values, strict=True)]
            found.append(Curve(" ".join([name, *held]), number, along, members))
    return found


def at_equal_beta(rows: Sequence[Row]) -> list[AtBeta]:
    """Returns the rows whose algorithm and beta another family has too, by beta and then by family and alpha. Rows
    whose beta was adapted are left out: they have no single beta."""
    grouped = families(rows)
    found = []
    for number, (family, name) in enumerate(zip(grouped, _family_names(grouped), strict=True)):
        for row in family:
            run = row.runs[0]
            if run.beta is not None and not run.settings.get("regularizer.target_kl"):
                skew = "" if run.alpha is None else f" α={run.alpha:g}"
                held = "" if run.weight is None else f" w={run.weight:g}"
                named = f"{name}{skew}{held}"
                found.append(AtBeta(named, number, run.beta, row))
    sharing: dict[tuple[str, float], set[int]] = {}
    for at in found:
        sharing.setdefault(at.shared_by, set()).add(at.family)
    shared = [at for at in found if len(sharing[at.shared_by]) > 1]
    return sorted(shared, key=lambda at: (at.shared_by[0], at.beta, at.family, at.row.runs[0].alpha or 0))


def reach(curve: Curve, x: str) -> tuple[float, float] | None:
    """Returns the least and greatest mean of ``x`` along a curve; None if no row has it."""
    means = [row.cells[x].mean for row in curve.rows if x in row.cells]
    return (min(means), max(means)) if means else None


def common_value(ranges: Sequence[tuple[float, float]]) -> float | None:
    """Returns the middle of the widest stretch that the greatest number of ranges share; None if no two of them have a
    value in common. A range of no width, a point, is chosen if more ranges meet there than on any stretch (the least
    such point).

    >>> common_value([(0.0, 4.0), (1.0, 8.0), (20.0, 30.0), (5.0, 5.0)]), common_value([(0.0, 4.0), (3.0, 3.0)])
    (2.5, 3.0)
    """
    ends = sorted({end for pair in ranges for end in pair})
    best: tuple[int, float, float] = (1, 0.0, 0.0)  # ranges, width, value
    for low, high in [*pairwise(ends), *((start, stop) for start, stop in sorted(ranges) if start == stop)]:
        count = sum(start <= low and high <= stop for start, stop in ranges)
        best = max(best, (count, high - low, (low + high) / 2), key=lambda found: found[:2])
    return best[2] if best[0] > 1 else None


def matched(found: Sequence[Curve], x: str, metrics: Sequence[str]) -> tuple[float | None, list[Matched]]:
    """Returns a common value of ``x`` (:func:`common_value` of the curves' reach) and every curve's metrics there."""
    ranges = [reach(curve, x) for curve in found]
    at = common_value([ends for ends in ranges if ends is not None])
    if at is None:
        return None, []
    lines = []
    for curve, ends in zip(found, ranges, strict=True):
        cells: Mapping[str, Cell] = {}
        absent = ""
        if ends is None:
            absent = "not measured"
        elif ends == (at, at):
            cells = {metric: curve.rows[0].cells[metric] for metric in metrics if metric in curve.rows[0].cells}
        elif not ends[0] <= at <= ends[1]:
            absent = f"one point, at {ends[0]:.3g}" if ends[0] == ends[1] else f"reaches {ends[0]:.3g} to {ends[1]:.3g}"
        else:
            between = {metric: interpolated(curve.rows, x, metric, at) for metric in metrics}
            cells = {metric: cell for metric, cell in between.items() if cell is not None}
        lines.append(Matched(curve.name, curve.family, cells, absent))
    return at, lines


def interpolated(rows: Sequence[Row], x: str, y: str, at: float) -> Cell | None:
    """Returns the metric ``y`` where ``x`` is ``at``: linear between the neighbours in ``x``, None outside.

    With means (x0, y0), (x1, y1) and w = (at − x0)/(x1 − x0) the mean is (1 − w)·y0 + w·y1. Its interval is Student's
    over the seeds that both neighbours have, of (1 − w)·y0s + w·y1s + slope·(at − (1 − w)·x0s − w·x1s): every seed's
    point of the segment, carried to ``at`` along it (first order in the seeds' deviations, so that a seed which went
    further in x is not taken for a better one). Over the same seeds their mean is the interpolated mean.
    """
    points = sorted((row for row in rows if x in row.cells and y in row.cells), key=lambda row: row.cells[x].mean)
    for left, right in pairwise(points):
        x0, x1, y0, y1 = left.cells[x], right.cells[x], left.cells[y], right.cells[y]
        if not x0.mean <= at <= x1.mean:
            continue
        width = x1.mean - x0.mean
        weight = (at - x0.mean) / width if width else 0.5
        slope = (y1.mean - y0.mean) / width if width else 0.0
        seeds = [s for s in y0.values if all(s in cell.values for cell in (x0, x1, y1))]
        values = {}
        for s in seeds:
            own_x = (1 - weight) * x0.values[s] + weight * x1.values[s]
            own_y = (1 - weight) * y0.values[s] + weight * y1.values[s]
            values[s] = own_y + slope * (at - own_x)
        return Cell(values, (1 - weight) * y0.mean + weight * y1.mean, seeds_half(values.values()))
    return None


def _position(row: Row, setting: str) -> float:
    """Returns the row's value of a setting of :data:`SYMBOLS`; -1, which none has, for a row without it."""
    value = getattr(row.runs[0], setting)
    return -1.0 if value is None else float(value)


def _family_names(grouped: Sequence[Sequence[Row]]) -> list[str]:
    """Names families by what their recipes share, and by the settings in which families of one such name differ."""
    heads = [
        _shared_recipe([row.runs[0].recipe for row in family], family[0].runs[0].regularizer) for family in grouped
    ]
    settings = [family[0].runs[0].family_settings for family in grouped]
    names = []
    for head, own in zip(heads, settings, strict=True):
        same = [other for other_head, other in zip(heads, settings, strict=True) if other_head == head]
        names.append(" · ".join([head, *differing(own, same)]))
    return short_labels(names)


def _shared_recipe(recipes: Sequence[str], regularizer: str) -> str:
    """Returns the parts that all names begin and end with; the regularizer's name in front if they begin differently.

    >>> _shared_recipe(["rkl_grpo_tiny", "rkl_tuned_grpo_tiny"], "rkl"), _shared_recipe(["a_tiny", "b_tiny"], "js")
    ('rkl_grpo_tiny', 'js_tiny')
    """
    if len(set(recipes)) == 1:
        return recipes[0]
    parts = [recipe.split("_") for recipe in recipes]
    least = min(map(len, parts))
    front = 0
    while front < least and len({part[front] for part in parts}) == 1:
        front += 1
    back = 0
    while front + back < least and len({part[-back - 1] for part in parts}) == 1:
        back += 1
    shared = parts[0]
    return "_".join([*(shared[:front] or [regularizer]), *shared[len(shared) - back :]])
