"""The views beside the main table: what holds beta, the divergence reached or the tokens generated or trained equal,
calibration benchmark by benchmark, and differences over questions.

Each is a picture, tables and what a reader must know, as far as there is something to show in that way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carerl.config.published import Published
from carerl.metrics.table import abstention_metric, accuracy_metric, ece_metric, metric_line
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.decisions import NOTES, decision_table
from carerl.report.compare.frontier import DIVERGENCE, at_equal_beta, curves, matched, reach
from carerl.report.compare.pictures import frontier as plots
from carerl.report.compare.published import published_notes, published_table
from carerl.report.compare.rows import Cell, make_cell
from carerl.report.compare.tables import (
    TextTable,
    calibration_table_notes,
    calibration_tables,
    cell_text,
    question_difference_notes,
    question_difference_tables,
)
from carerl.report.compare.tokens import (
    GENERATED,
    ROLLOUT_ACCURACY,
    TRAINED,
    Counted,
    Trajectory,
    at_tokens,
    bands,
    common_tokens,
    evaluated_between,
    read_trajectories,
)
from carerl.report.pictures.svg import Picture


@dataclass(frozen=True, slots=True)
class View:
    """Holds what one view shows; ``picture`` draws it, or returns None without one."""

    title: str
    notes: list[str]
    tables: list[TextTable]
    picture: Callable[[], Picture | None] = lambda: None  # drawn only where it is shown


def views(comparison: Comparison) -> list[View]:
    """Returns the views that the comparison has something to show in."""
    makers = (_equal_beta, _matched_divergence, _matched_generated, _matched_trained)
    found = [view for make in makers if (view := make(comparison))]
    if shown := calibration_tables(comparison):
        found.append(View("Calibration by benchmark", calibration_table_notes(comparison), shown))
    if table := decision_table(comparison):
        found.append(View("Decisions, in and out of domain", NOTES, [table]))
    if shown := question_difference_tables(comparison.differences):
        notes = question_difference_notes(comparison.differences)
        found.append(View("Paired differences over questions", notes, shown))
    return found


def published_views(
    comparison: Comparison, published: Published, awaited: Sequence[Mapping[str, Any]] = ()
) -> list[View]:
    """Returns the view of a paper's table beside ours; none if no row of it was asked for. ``awaited``: the settings of
    the cells that have no result."""
    table = published_table(comparison, published, awaited)
    return [View(table.title, published_notes(comparison, published, awaited), [table])] if table else []


def _metrics(comparison: Comparison) -> list[str]:
    columns = comparison.columns
    wanted = (accuracy_metric(columns), ece_metric(columns), abstention_metric(columns))
    return [name for name in wanted if name in columns]


def _cells(cells: Mapping[str, Cell], metrics: list[str]) -> list[str]:
    return [cell_text(cells.get(name), metric_line(name).digits).rstrip("*") for name in metrics]


def _table(title: str, head: list[str], lines: list[list[str]], sources: list[list[str]]) -> TextTable:
    """Makes a table of lines that end in why they are absent, or in nothing. If nothing is absent, that column is left
    out."""
    if any(line[-1] for line in lines):
        return TextTable(title, [*head, "absent"], lines, sources)
    return TextTable(title, head, [line[:-1] for line in lines], sources)


def _head(metrics: list[str]) -> list[str]:
    return [metric_line(name).label for name in metrics]


def _equal_beta(comparison: Comparison) -> View | None:
    found = at_equal_beta(comparison.rows)
    if not found:
        return None
    metrics = _metrics(comparison)
    lines = [[at.name, f"{at.beta:g}", str(len(at.row.runs)), *_cells(at.row.cells, metrics)] for at in found]
    title = "At equal beta"
    return View(
        title,
        [
            "The table has the betas that at least two families were run with. Equal betas are not equal strengths: "
            "near the reference a skew divergence curves (1 − α)² times as much as its plain one, 1/25 at α = 0.8.",
        ],
        [TextTable(title, ["method", "beta", "n", *_head(metrics)], lines, [[at.row.label] for at in found])],
        lambda: plots.equal_beta(found, metrics[:2]),
    )


def _matched_divergence(comparison: Comparison) -> View | None:
    found = curves(comparison.rows)
    if len(found) < 2 or sum(reach(curve, DIVERGENCE) is not None for curve in found) < 2:
        return None
    if not any(curve.along for curve in found):  # as many points as families: the divergence is in the main table
        return None
    metrics = _metrics(comparison)
    at, reached = matched(found, DIVERGENCE, metrics)
    title = "At matched divergence"
    lines = [[line.name, *_cells(line.cells, metrics), line.absent] for line in reached]
    notes = ["Divergence: reverse KL to the base model at the end of training, nats per sequence."]
    if at is None:
        notes.append("No table: no two of the curves and points have a divergence in common.")
    else:
        notes.append(
            f"The table is at {at:.3g} nats, the divergence that the most curves and single points have in common (the "
            "middle of a stretch): linear between the points around it, never beyond a curve's ends. Its intervals "
            "carry every seed's point to that divergence along the curve."
        )
    table = None
    if at is not None:
        sources = [[row.label for row in curve.rows] for curve in found]
        table = _table(f"{title}: {at:.3g} nats per sequence", ["method", *_head(metrics)], lines, sources)
    return View(
        title,
        notes,
        [table] if table else [],
        lambda: plots.matched_divergence(found, comparison.rows, metrics[:2], at),
    )


def _matched_generated(comparison: Comparison) -> View | None:
    return _matched_tokens(comparison, GENERATED)


def _matched_trained(comparison: Comparison) -> View | None:
    """Shows rows at equal compute, where some of them train more than what they sampled: those with anchors."""
    if all(row.is_base or row.runs[0].weight is None for row in comparison.rows):
        return None
    return _matched_tokens(comparison, TRAINED)


def _matched_tokens(comparison: Comparison, counted: Counted) -> View | None:
    rows = [row for row in comparison.rows if not row.is_base]
    found = read_trajectories(rows, counted)
    if sum(bool(runs) for runs in found.values()) < 2:
        return None
    metrics = [name for name in _metrics(comparison) if name != abstention_metric(comparison.columns)]
    evaluated = evaluated_between(found)
    drawn = metrics if evaluated else [ROLLOUT_ACCURACY]
    courses = {metric: bands(rows, found, metric) for metric in drawn}
    tokens = common_tokens(found)
    notes = [counted.note]
    if any(run.learned_only for runs in found.values() for run in runs.values()):
        notes.append(counted.missing)
    if evaluated:
        notes.append("Between the ends of a run, its learning rate has not come down yet.")
    else:
        notes.append(
            "Some runs were evaluated on all questions at their ends only, so the picture has the accuracy of rollouts "
            "on training questions, smoothed. Set evaluation.every, and evaluation.questions_between=0, for a course."
        )
    table = None
    reached = at_tokens(rows, found, metrics, tokens) if tokens is not None else []
    if tokens is not None and any(at.cells for at in reached):
        lines = [[at.row.label, str(_seeds(at.cells) or "–"), *_cells(at.cells, metrics), at.absent] for at in reached]
        title = f"At matched {counted.name} tokens: {tokens:,.0f}"
        table = _table(title, ["method", "n", *_head(metrics)], lines, [[at.row.label] for at in reached])
        notes.append(
            "The table is at the greatest number of tokens that every run reached: the evaluation there, or linear "
            "between the two around it."
        )
    shown = [_totals(found, counted), *([table] if table else [])]
    title = f"At matched {counted.name} tokens"
    return View(title, notes, shown, lambda: plots.matched_tokens(courses, comparison.rows, counted.name))


def _totals(found: Mapping[str, Mapping[int, Trajectory]], counted: Counted) -> TextTable:
    """Returns the table of how many tokens each row's runs took in all."""
    cells = {label: make_cell({seed: run.total for seed, run in runs.items()}) for label, runs in found.items() if runs}
    lines = [[label, str(len(cell.values)), f"{cell.mean:,.0f}"] for label, cell in cells.items()]
    return TextTable(f"Tokens {counted.name} by a run", ["method", "n", "tokens"], lines, [[label] for label in cells])


def _seeds(cells: Mapping[str, Cell]) -> int:
    return max((len(cell.values) for cell in cells.values()), default=0)
