"""A comparison as a terminal table, Markdown, CSV and one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from carerl.report.compare_tables import (
    TextTable,
    column_label,
    count_text,
    difference_notes,
    difference_tables,
    main_table,
    notes,
)
from carerl.report.comparison import GAP_METRIC, Cell, Comparison, Row
from carerl.report.frontier import curves, families
from carerl.report.html import render
from carerl.report.metric_table import format_number, metric_line
from carerl.report.run_directory import write_text
from carerl.report.scatter import scatter
from carerl.report.svg import SERIES
from carerl.report.views import View

CSV_FIELDS = (
    *("method", "metric", "n", "mean", "half_interval"),
    *("baseline", "pairs", "difference", "bound", "gap_closed", "p", "p_holm", "starred"),
    *("seeds", "values", "runs"),
    *("family", "alpha", "beta"),
)


def write_comparison(comparison: Comparison, out: str | Path, views: Sequence[View] = ()) -> list[Path]:
    """compare.html, compare.csv and compare.md in ``out``; returns their paths. ``views``: what they have beside the
    table, see :mod:`carerl.report.views`."""
    directory = Path(out)
    paths = [directory / f"compare.{ending}" for ending in ("html", "csv", "md")]
    texts = (page(comparison, views), csv_text(comparison), markdown(comparison, views))
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)
    return paths


def terminal_tables(comparison: Comparison, width: int) -> list[Table]:
    """The main table and those of differences, one line per row where ``width`` characters suffice, else with
    intervals and bounds on a line of their own."""
    wide, narrow = ([main_table(comparison, s), *difference_tables(comparison, s)] for s in (" ", "\n"))
    bases = {row.label for row in comparison.rows if row.is_base}
    return [_rich(w if _width(w) <= width else n, bases) for w, n in zip(wide, narrow, strict=True)]


def terminal_table(table: TextTable) -> Table:
    return _rich(table, set())


def _width(table: TextTable) -> int:
    """Characters that a line takes, with two between columns."""
    return sum(2 + max(map(len, column)) for column in zip(table.head, *table.lines, strict=True))


def _rich(table: TextTable, plain: set[str]) -> Table:
    """``plain``: labels that are not bold."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=table.title or None)
    made.title_style, made.title_justify = "bold", "left"
    for number, title in enumerate(table.head):
        made.add_column(Text(title), justify="right" if number else "left", overflow="fold")
    for label, *cells in table.lines:
        made.add_row(Text(label, style="" if label in plain else "bold"), *map(Text, cells))
    return made


def markdown(comparison: Comparison, views: Sequence[View] = ()) -> str:
    parts = [_markdown_table(main_table(comparison)), _markdown_notes(notes(comparison))]
    for table in difference_tables(comparison):
        parts += [f"**{table.title}**", _markdown_table(table)]
    parts.append(_markdown_notes(difference_notes(comparison)))
    for view in views:
        parts.append(f"**{view.table.title if view.table else view.title}**")
        parts += [_markdown_table(view.table)] if view.table else []
        parts.append(_markdown_notes(view.notes))
    if comparison.absent:
        parts += ["Absent cells:", "\n".join(f"- `{words}`: {reason}" for words, reason in comparison.absent)]
    if comparison.left_out:
        parts += ["Left out:", "\n".join(f"- `{name}`: {reason}" for name, reason in comparison.left_out)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: TextTable) -> str:
    lines = [table.head, *table.lines]
    head, *body = ("| " + " | ".join(cells).replace("*", "\\*") + " |" for cells in lines)
    return "\n".join([head, "|---|" + "--:|" * (len(table.head) - 1), *body])


def _markdown_notes(lines: Sequence[str]) -> str:
    """Two blanks at the end of a line break it."""
    return "  \n".join(line.replace("*", "\\*") for line in lines)


def csv_text(comparison: Comparison) -> str:
    """One line per method and metric, with every seed's value and the runs that they come from."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    numbered = {row.label: number for number, family in enumerate(families(comparison.rows)) for row in family}
    for row in comparison.rows:
        for name in comparison.columns:
            cell = row.cells.get(name)
            if cell is None:
                continue
            gap_closed = row.gap_closed if name == GAP_METRIC else None
            numbers = (cell.mean, cell.half, cell.difference, cell.bound, gap_closed, cell.p, cell.p_holm)
            mean, half, *paired = ("" if v is None else repr(v) for v in numbers)
            seeds = " ".join(map(str, cell.values))
            values = " ".join(map(repr, cell.values.values()))
            runs = " ".join(run.name for run in row.runs)
            writer.writerow(
                (
                    *(row.label, name, len(cell.values), mean, half),
                    *(row.baseline, cell.pairs, *paired, int(cell.starred)),
                    *(seeds, values, runs),
                    *("" if v is None else v for v in (numbered.get(row.label), *_position(row))),
                )
            )
    return stream.getvalue()


def _position(row: Row) -> tuple[float | None, float | None]:
    return (None, None) if row.is_base else (row.runs[0].alpha, row.runs[0].beta)


def page(comparison: Comparison, views: Sequence[View] = ()) -> str:
    names = comparison.columns
    methods = sum(not row.is_base for row in comparison.rows)
    runs = sum(len(row.runs) for row in comparison.rows if not row.is_base)
    recipes = list(dict.fromkeys(run.recipe for row in comparison.rows for run in row.runs))
    tints = {row.label: i % SERIES + 1 for i, family in enumerate(families(comparison.rows)) for row in family}
    rows = []
    for number, row in enumerate(comparison.rows):
        tint = f"var(--c{tints[row.label]})" if row.label in tints else "var(--muted)"
        rows.append(_page_row(row, number, tint, names))
    return render(
        "compare.html.j2",
        title="Accuracy and calibration",
        subtitle=f"{runs} runs, {methods} methods: {', '.join(recipes)}",
        plots=_plots(comparison),
        columns=[column_label(name, comparison) for name in names],
        rows=rows,
        notes=notes(comparison),
        differences=difference_tables(comparison),
        difference_notes=difference_notes(comparison),
        views=[(view, view.picture()) for view in views],
        absent=comparison.absent,
        left_out=comparison.left_out,
    )


def _plots(comparison: Comparison) -> list[dict[str, str]]:
    wanted: Sequence[tuple[str, str, str, tuple[float, float]]] = (
        ("calibration/facts_ece", "Accuracy against FACTS ECE", "lower right", (11.4, 5.0)),
        ("calibration/unknowable_f1", "Accuracy against UNKNOWABLE F1", "upper right", (5.6, 4.2)),
        ("calibration/answer_ece", "Accuracy against answer ECE", "lower right", (5.6, 4.2)),
        ("calibration/question_ece", "Accuracy against question ECE", "lower right", (5.6, 4.2)),
    )
    plots = []
    joins = any(curve.along for curve in curves(comparison.rows))
    for metric, title, corner, size in wanted:
        svg = scatter(comparison, "eval/accuracy", metric, size)
        if svg:
            joined = " Lines join a family's settings in order." if joins else ""
            note = f"The {corner} is better. Dots: runs. Large: a group's mean, 95 % intervals, cut at 0 and 1.{joined}"
            plots.append({"title": title, "note": note, "svg": svg})
    return plots


def _page_row(row: Row, number: int, tint: str, names: Sequence[str]) -> dict[str, Any]:
    cells, by_seed = [], {run.seed: run for run in row.runs}
    for name in names:
        cell, digits = row.cells.get(name), metric_line(name).digits
        if cell is None:
            cells.append({"text": "", "half": "", "starred": False, "runs": ""})
            continue
        sources = [f"{by_seed[seed].name}: {format_number(value, digits)}" for seed, value in cell.values.items()]
        half = format_number(cell.half, digits) if cell.half is not None else ""
        cells.append(
            {
                "text": format_number(cell.mean, digits),
                "half": half,
                "starred": cell.starred,
                "runs": "\n".join([*_test_lines(row, cell, digits), *sources]),
            }
        )
    runs = []
    for run in row.runs:
        metrics = run.base if row.is_base else run.final
        values = [format_number(metrics.get(name), metric_line(name).digits) for name in names]
        runs.append({"name": run.name, "seed": run.seed, "cells": values})
    note = "Before training; runs of one seed share their base model and count once." if row.is_base else ""
    if row.baseline:
        note = f"Compared with {row.baseline}."
    return {
        "label": row.label,
        "anchor": f"group-{number}",
        "tint": tint,
        "n": count_text(row),
        "cells": cells,
        "runs": runs,
        "note": note,
    }


def _test_lines(row: Row, cell: Cell, digits: int) -> list[str]:
    if cell.difference is None:
        return []
    change = f"{format_number(cell.difference, digits, sign=True)} to {row.baseline} over {cell.pairs} seeds"
    return [change + (f", Holm p = {cell.p_holm:.3g}" if cell.p_holm is not None else "")]
