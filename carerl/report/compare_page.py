"""A comparison as a terminal table, Markdown, CSV and one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from carerl.report.comparison import GAP_METRIC, Cell, Comparison, Row
from carerl.report.html import render
from carerl.report.metric_table import MEANINGS, format_number, metric_line
from carerl.report.run_directory import write_text
from carerl.report.scatter import scatter
from carerl.report.svg import SERIES

CSV_FIELDS = (
    *("method", "metric", "n", "mean", "half_interval"),
    *("baseline", "pairs", "difference", "bound", "gap_closed", "p", "p_holm", "starred"),
    *("seeds", "values", "runs"),
)


def write_comparison(comparison: Comparison, out: str | Path) -> list[Path]:
    """compare.html, compare.csv and compare.md in ``out``; returns their paths."""
    directory = Path(out)
    paths = [directory / f"compare.{ending}" for ending in ("html", "csv", "md")]
    for path, text in zip(paths, (page(comparison), csv_text(comparison), markdown(comparison)), strict=True):
        write_text(path, text)
    return paths


def column_label(name: str, comparison: Comparison) -> str:
    label = metric_line(name).short if name in ("eval/entropy", "eval/kl_per_sequence") else metric_line(name).label
    return f"maj@{comparison.samples}" if name == "eval/maj" and comparison.samples else label


def cell_text(cell: Cell | None, digits: int, separator: str = " ") -> str:
    """``0.951 ± 0.012*``; no interval from a single seed.

    >>> cell_text(Cell({1: 0.5}, 0.5, None), 3), cell_text(None, 3)
    ('0.500', '–')
    """
    if cell is None:
        return "–"
    half = f"{separator}± {format_number(cell.half, digits)}" if cell.half is not None else ""
    return f"{format_number(cell.mean, digits)}{half}{'*' if cell.starred else ''}"


def difference_text(name: str, cell: Cell | None, separator: str = " ") -> str:
    """``-0.041 (≤ -0.030) ✓``: the paired difference and its bound, ≥ for a lower and ≤ for an upper one. The tick
    says that the bound, too, is on the better side of 0.

    >>> ece = Cell({}, 0.5, None, difference=-0.0414, bound=-0.0302)
    >>> difference_text("calibration/facts_ece", ece), difference_text("eval/accuracy", None)
    ('-0.041 (≤ -0.030) ✓', '–')
    """
    if cell is None or cell.difference is None or cell.bound is None:
        return "–"
    line = metric_line(name)
    difference, bound = (format_number(value, line.digits, sign=True) for value in (cell.difference, cell.bound))
    tick = " ✓" if line.better * cell.bound > 0 else ""
    return f"{difference}{separator}({'≥' if line.better > 0 else '≤'} {bound}){tick}"


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table whose first column names the method; every line has as many cells as ``head``."""

    title: str
    head: list[str]
    lines: list[list[str]]


def main_table(comparison: Comparison, separator: str = " ") -> TextTable:
    """A line per row. ``separator`` stands between a mean and its interval."""
    names = comparison.columns
    lines = []
    for row in comparison.rows:
        cells = [cell_text(row.cells.get(name), metric_line(name).digits, separator) for name in names]
        lines.append([row.label, str(_count(row)), *cells])
    return TextTable("", ["method", "n", *(column_label(name, comparison) for name in names)], lines)


def difference_tables(comparison: Comparison, separator: str = " ") -> list[TextTable]:
    """One table for each baseline that a row shares two seeds with; ``separator`` stands before a bound."""
    tables = []
    for baseline in dict.fromkeys(row.baseline for row in comparison.rows if row.baseline):
        rows = [row for row in comparison.rows if row.baseline == baseline and _bounded(row)]
        names = [name for name in comparison.columns if any(name in _bounded(row) for row in rows)]
        if not rows:
            continue
        gaps = any(row.gap_closed is not None for row in rows)
        arrows = [f"{column_label(name, comparison)} {'↑' if metric_line(name).better > 0 else '↓'}" for name in names]
        lines = []
        for row in rows:
            cells = [difference_text(name, row.cells.get(name), separator) for name in names]
            gap = "–" if row.gap_closed is None else f"{format_number(100 * row.gap_closed, 0)} %"
            lines.append([row.label, _pairs_text(row), *cells, *([gap] if gaps else [])])
        head = ["method", "pairs", *arrows, *(["ECE gap closed"] if gaps else [])]
        tables.append(TextTable(f"Paired differences to {baseline}", head, lines))
    return tables


def _bounded(row: Row) -> list[str]:
    """The metrics in which the row has a bound."""
    return [name for name, cell in row.cells.items() if cell.bound is not None]


def _pairs_text(row: Row) -> str:
    """The number of pairs; ``4–5`` where metrics differ in it."""
    pairs = [row.cells[name].pairs for name in _bounded(row)]
    return str(min(pairs)) if min(pairs) == max(pairs) else f"{min(pairs)}–{max(pairs)}"


def terminal_tables(comparison: Comparison, width: int) -> list[Table]:
    """The main table and those of differences, one line per row where ``width`` characters suffice, else with
    intervals and bounds on a line of their own."""
    wide, narrow = ([main_table(comparison, s), *difference_tables(comparison, s)] for s in (" ", "\n"))
    bases = {row.label for row in comparison.rows if row.is_base}
    return [_rich(w if _width(w) <= width else n, bases) for w, n in zip(wide, narrow, strict=True)]


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


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the main table."""
    lines = ["Mean over seeds of the final evaluation ± half-width of the 95 % Student interval (n − 1)."]
    lines += comparison.notes
    if any(row.is_base for row in comparison.rows):
        lines.append("base: the models before training, each seed once; not tested.")
    return lines + [MEANINGS[name] for name in comparison.columns if name in MEANINGS]


def difference_notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the tables of differences; nothing where there are none."""
    if not difference_tables(comparison):
        return []
    lines = [
        "Mean of row − baseline over the paired seeds (↑ more is better, ↓ less is better). In brackets the one-sided "
        "95 % Student bound (n − 1) on the side that speaks against the row: ≥ a lower one where more is better, "
        "≤ an upper one where less is. ✓: the bound, too, is on the better side of 0. Each bound stands by itself, "
        "not corrected for their number.",
    ]
    if any(row.gap_closed is not None for row in comparison.rows):
        lines.append(
            "ECE gap closed: (baseline − row) / (baseline − base) in FACTS ECE, means over the seeds that all three "
            "have. 100 %: as calibrated as before training; 0 %: as the baseline."
        )
    return lines


def markdown(comparison: Comparison) -> str:
    parts = [_markdown_table(main_table(comparison)), _markdown_notes(notes(comparison))]
    for table in difference_tables(comparison):
        parts += [f"**{table.title}**", _markdown_table(table)]
    parts.append(_markdown_notes(difference_notes(comparison)))
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
                )
            )
    return stream.getvalue()


def page(comparison: Comparison) -> str:
    names = comparison.columns
    methods = sum(not row.is_base for row in comparison.rows)
    runs = sum(len(row.runs) for row in comparison.rows if not row.is_base)
    recipes = list(dict.fromkeys(run.recipe for row in comparison.rows for run in row.runs))
    rows, index = [], 0
    for number, row in enumerate(comparison.rows):
        tint = "var(--muted)" if row.is_base else f"var(--c{index % SERIES + 1})"
        index += not row.is_base
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
    for metric, title, corner, size in wanted:
        svg = scatter(comparison, "eval/accuracy", metric, size)
        if svg:
            note = f"The {corner} is better. Dots: runs. Large: a group's mean, 95 % intervals, cut at 0 and 1."
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
        "n": _count(row),
        "cells": cells,
        "runs": runs,
        "note": note,
    }


def _test_lines(row: Row, cell: Cell, digits: int) -> list[str]:
    if cell.difference is None:
        return []
    change = f"{format_number(cell.difference, digits, sign=True)} to {row.baseline} over {cell.pairs} seeds"
    return [change + (f", Holm p = {cell.p_holm:.3g}" if cell.p_holm is not None else "")]


def _count(row: Row) -> int:
    """Seeds, not runs: the base of one seed may stand in several runs."""
    return len({run.seed for run in row.runs})
