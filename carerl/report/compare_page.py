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

from carerl.report.comparison import Cell, Comparison, Row
from carerl.report.html import render
from carerl.report.metric_table import format_number, metric_line
from carerl.report.run_directory import write_text
from carerl.report.scatter import scatter
from carerl.report.svg import SERIES

CSV_FIELDS = (
    *("method", "metric", "n", "mean", "half_interval"),
    *("baseline", "pairs", "difference", "p", "p_holm", "starred"),
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


def terminal_table(comparison: Comparison, width: int) -> Table:
    """One line per row where ``width`` characters suffice, else the interval under its mean."""
    for separator in (" ", "\n"):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("method", overflow="fold")
        table.add_column("n", justify="right", no_wrap=True)
        for name in comparison.columns:
            table.add_column(Text(column_label(name, comparison)), justify="right", no_wrap=separator == " ")
        needed = 6 + max(len(row.label) for row in comparison.rows)
        for name in comparison.columns:
            digits = metric_line(name).digits
            texts = [cell_text(row.cells.get(name), digits, separator) for row in comparison.rows]
            needed += 2 + max(len(column_label(name, comparison)), *map(len, texts))
        for row in comparison.rows:
            cells = [cell_text(row.cells.get(n), metric_line(n).digits, separator) for n in comparison.columns]
            label = Text(row.label, style="" if row.is_base else "bold")
            table.add_row(label, str(_count(row)), *cells)
        if needed <= width:
            break
    return table


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the table."""
    lines = ["Mean over seeds of the final evaluation ± half-width of the 95 % Student interval (n − 1)."]
    lines += comparison.notes
    if any(row.is_base for row in comparison.rows):
        lines.append("base: the models before training, each seed once; not tested.")
    return lines


def markdown(comparison: Comparison) -> str:
    names = comparison.columns
    head = ["method", "n", *(column_label(name, comparison) for name in names)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for row in comparison.rows:
        cells = [cell_text(row.cells.get(name), metric_line(name).digits).replace("*", "\\*") for name in names]
        lines.append("| " + " | ".join([row.label, str(_count(row)), *cells]) + " |")
    lines += ["", *(note.replace("*", "\\*", 1) + "  " for note in notes(comparison))]
    if comparison.left_out:
        lines += ["", "Left out:", "", *(f"- `{name}`: {reason}" for name, reason in comparison.left_out)]
    return "\n".join(lines).rstrip() + "\n"


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
            numbers = (cell.mean, cell.half, cell.difference, cell.p, cell.p_holm)
            mean, half, difference, p, p_holm = ("" if v is None else repr(v) for v in numbers)
            seeds = " ".join(map(str, cell.values))
            values = " ".join(map(repr, cell.values.values()))
            runs = " ".join(run.name for run in row.runs)
            writer.writerow(
                (
                    *(row.label, name, len(cell.values), mean, half),
                    *(row.baseline, cell.pairs, difference, p, p_holm, int(cell.starred)),
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
        left_out=comparison.left_out,
    )


def _plots(comparison: Comparison) -> list[dict[str, str]]:
    wanted: Sequence[tuple[str, str, str, tuple[float, float]]] = (
        ("calibration/facts_ece", "Accuracy against FACTS ECE", "lower right", (11.4, 5.0)),
        ("calibration/unknowable_f1", "Accuracy against UNKNOWABLE F1", "upper right", (5.6, 4.2)),
        ("calibration/answer_ece", "Accuracy against answer ECE", "lower right", (5.6, 4.2)),
    )
    plots = []
    for metric, title, corner, size in wanted:
        svg = scatter(comparison, "eval/accuracy", metric, size)
        if svg:
            note = f"The {corner} is better. Dots: runs. Large: a group's mean, 95 % intervals."
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
