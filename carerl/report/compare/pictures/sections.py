"""Draws all pictures of a comparison, in the sections of its page."""

from __future__ import annotations

from dataclasses import dataclass, field

from carerl.metrics.table import abstention_metric, accuracy_metric, metric_line, names_in, suite_label
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.frontier import curves
from carerl.report.compare.pictures.scatter import looks, scatter
from carerl.report.compare.pictures.side_by_side import coverage_curves, reliability_panels, split_panels
from carerl.report.compare.side_by_side import coverage_by_row, reliability_by_row, splits_by_row
from carerl.report.pictures.svg import Picture

LARGE, SMALL = (11.4, 5.0), (5.6, 4.2)  # inches


@dataclass(frozen=True, slots=True)
class Shown:
    """Holds a picture with its title and a note below it."""

    title: str
    note: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class Section:
    """Holds the pictures of one section of the page."""

    title: str
    note: str
    figures: list[Shown]


@dataclass(frozen=True, slots=True)
class Figures:
    """Holds all pictures. ``frontier``: accuracy against calibration, the first one large. ``sections``: the pictures
    behind it."""

    frontier: list[Shown] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        return [shown.picture for shown in [*self.frontier, *(s for part in self.sections for s in part.figures)]]


def draw(comparison: Comparison) -> Figures:
    """Draws every picture that the comparison has something to show in."""
    rows, evaluated, look = comparison.rows, comparison.evaluated, looks(comparison.rows)
    reliability = reliability_by_row(rows, evaluated)
    diagrams = [
        Shown(suite_label(name), "", reliability_panels(name, suite_label(name), found, look))
        for name, found in reliability.items()
    ]
    coverage = {suite: (suite_label(suite), found) for suite, found in coverage_by_row(rows, evaluated).items()}
    courses = [Shown(title, "", split_panels(title, found)) for title, found in splits_by_row(rows).items()]
    sections = [
        Section(
            "Reliability",
            "A dot lies at the mean confidence and the accuracy of a bin, seeds pooled; below the diagonal a method "
            "claims too much. Under each diagram the number of answers in each bin. The pooled ECE is of these bins, "
            "where gaps of different seeds can cancel: the table's mean over seeds is higher.",
            diagrams,
        ),
        Section(
            "Accuracy over coverage",
            "Accuracy when only the most confident answers are given, by the majority's share of the votes; answers of "
            "equal confidence count with their mean. Bands: 95 % Student intervals over seeds.",
            [Shown("", "", coverage_curves(coverage, look))] if coverage else [],
        ),
        Section(
            "Right and wrong responses",
            "Training rollouts, smoothed; means over seeds with 95 % Student intervals. A step without wrong responses "
            "has no point of theirs.",
            courses,
        ),
    ]
    return Figures(_frontier(comparison), [section for section in sections if section.figures])


def _frontier(comparison: Comparison) -> list[Shown]:
    columns = comparison.columns
    x, f1 = accuracy_metric(columns), abstention_metric(columns)
    eces = [name for name in columns if metric_line(name).better < 0 and name.startswith("calibration/")]
    order = list(dict.fromkeys([*names_in("frontier"), f1]))
    wanted = [name for name in order if name in columns] + [name for name in eces if name not in order]
    if any(name not in order for name in eces):  # text benchmarks: an ECE first
        wanted = [*(name for name in wanted if name != f1), *(name for name in wanted if name == f1)]
    joins = any(curve.along for curve in curves(comparison.rows))
    shown: list[Shown] = []
    for metric in wanted:
        picture = scatter(comparison, x, metric, SMALL if shown else LARGE)
        if picture:
            line = metric_line(metric)
            corner = "upper right" if line.better > 0 else "lower right"
            ahead = f"{metric_line(x).label} against {line.label}"
            joined = " Lines join a family's settings in order." if joins else ""
            note = (
                f"The {corner} is better. Dots: runs. Large: a group's mean, 95 % intervals"
                f"{_over(comparison, metric)}, cut at 0 and 1.{joined}"
            )
            shown.append(Shown(ahead[0].upper() + ahead[1:], note, picture))
    return shown


def _over(comparison: Comparison, metric: str) -> str:
    cells = [row.cells[metric] for row in comparison.rows if metric in row.cells]
    if any(cell.half is not None for cell in cells):
        return " over seeds"
    return " over questions" if any(cell.questions for cell in cells) else ""
