"""A paper's table beside ours: each of its rows, and under it the runs of ours that have its settings.

It never says that the two agree: papers leave settings out, and ours are then choices made here. Beside a run of
another model than the paper's no difference is written: it would be one of models, and be read as one of methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carerl.config.published import Published, PublishedRow
from carerl.metrics.table import format_number, metric_line
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.rows import Row
from carerl.report.compare.tables import TextTable, cell_text, count_text

NOT_RUN = "not run yet"


def published_table(
    comparison: Comparison, published: Published, awaited: Sequence[Mapping[str, Any]]
) -> TextTable | None:
    """Returns the paper's rows, each with those of ours below it; None if no run of ours is one of them.

    ``awaited``: the settings (flat) of the cells that have no result. A row of the paper that was asked for and is not
    there stands as not run; one that nobody asked for is left out."""
    asked = [
        paper
        for paper in published.rows
        if paper.base or _ours(comparison, paper) or any(paper.is_of(found) for found in awaited)
    ]
    if all(paper.base for paper in asked):
        return None
    lines: list[list[str]] = []
    sources: list[list[str]] = []
    below: list[int] = []
    for paper in asked:
        ours = _ours(comparison, paper)
        lines.append([paper.label, "paper", "", *_figures(published, paper)])
        sources.append([])
        for row in ours:
            below.append(len(lines))
            lines.append([row.label, "ours", count_text(row), *_numbers(published, paper, row)])
            sources.append([row.label])
        if not ours:
            below.append(len(lines))
            lines.append([paper.label, "ours", "0", *([NOT_RUN] * len(published.columns))])
            sources.append([])
    head = ["method", "whose", "n", *(_head(label, names) for label, names in published.columns.items())]
    return TextTable(f"Beside {published.source}", head, lines, sources, below)


def _ours(comparison: Comparison, paper: PublishedRow) -> list[Row]:
    return [row for row in comparison.rows if (paper.base if row.is_base else paper.is_of(_of(row)))]


def _of(row: Row) -> Mapping[str, Any]:
    return row.runs[0].settings


def _head(label: str, names: Sequence[str]) -> str:
    """Returns a column's label with the side that is better."""
    better = metric_line(names[0]).better
    return f"{label} {'↑' if better > 0 else '↓'}" if better else label


def _figures(published: Published, paper: PublishedRow) -> list[str]:
    digits = [metric_line(names[0]).digits for names in published.columns.values()]
    return [format_number(figure, places) for figure, places in zip(paper.figures, digits, strict=True)]


def _numbers(published: Published, paper: PublishedRow, row: Row) -> list[str]:
    """Returns a row's numbers, with ours − paper in brackets where both are of one model."""
    found, comparable = [], _of_the_papers_model(published, row)
    for figure, names in zip(paper.figures, published.columns.values(), strict=True):
        name = next((name for name in names if name in row.cells), names[0])
        cell, digits = row.cells.get(name), metric_line(name).digits
        text = cell_text(cell, digits).rstrip("*")
        if cell is not None and figure is not None and comparable:
            text += f" ({format_number(cell.mean - figure, digits, sign=True)})"
        found.append(text)
    return found


def published_notes(
    comparison: Comparison, published: Published, awaited: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """Returns what a reader must know to read that table: first how ours are other runs than the paper's."""
    rows = [row for paper in published.rows for row in _ours(comparison, paper)]
    lines = []
    if any(run.config.get("rehearse") for row in rows for run in row.runs):
        lines.append("OURS IS A REHEARSAL, of drawn weights and outcomes by the toss of a coin: no figure is a result.")
    found = [_of(row) for row in rows] or list(awaited)
    other = []
    for key, theirs in published.settings.items():
        have = dict.fromkeys(str(_setting(settings, key)) for settings in found if _setting(settings, key) is not None)
        differing = [value for value in have if not _same(value, str(theirs))]
        if differing:
            other.append(f"{key} is {', '.join(differing)} (paper: {theirs})")
    if other:
        lines.append(f"OURS IS NOT THE PAPER'S EXPERIMENT: {'; '.join(other)}.")
    made = ", ".join(f"{key} {value}" for key, value in published.settings.items())
    lines.append(f"Paper: figures of {published.source}, made with {made}. Ours: with the intervals of the main table.")
    comparable = [_of_the_papers_model(published, row) for row in rows]
    if not all(comparable):
        lines.append(
            "No difference from the paper is given for our rows of another model or of a rehearsal: it would be one of "
            "models, and not of methods."
        )
    if any(comparable):
        lines.append(
            "In brackets: ours − paper. A difference has at least the uncertainty of ours, and the paper's is not "
            "known. Nothing here says that the two agree: what the paper leaves open is a choice made here."
        )
    return [*lines, *published.notes]


def _of_the_papers_model(published: Published, row: Row) -> bool:
    """Returns True for a row of real runs that trained the paper's model, or one in a directory of its name."""
    theirs = published.settings.get("model.path")
    ours = _setting(_of(row), "model.path")
    return not any(run.config.get("rehearse") for run in row.runs) and (theirs is None or _same(str(ours), str(theirs)))


def _setting(settings: Mapping[str, Any], key: str) -> Any:
    """Returns a run's setting; for the path of a model that was made here, the recipe that made it."""
    if key == "model.path" and settings.get("model.base_recipe"):
        return settings["model.base_recipe"]
    return settings.get(key)


def _same(ours: str, theirs: str) -> bool:
    """Returns True for equal values, and for a model in a directory that is called as the hub calls it."""
    return ours == theirs or ours.rstrip("/").rpartition("/")[2] == theirs.rpartition("/")[2]
