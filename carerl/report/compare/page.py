"""Shows a comparison: terminal tables, one HTML page, and a directory of files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from carerl.metrics.table import format_number, metric_line
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.files import (
    DIFFERENCES_FILE,
    PROVENANCE_FILE,
    Source,
    csv_text,
    differences_csv,
    latex,
    markdown,
    provenance_csv,
    sources,
)
from carerl.report.compare.frontier import families
from carerl.report.compare.pictures.sections import Figures, draw
from carerl.report.compare.rows import Cell, Row, Scaled
from carerl.report.compare.tables import (
    TextTable,
    column_label,
    count_text,
    difference_notes,
    difference_tables,
    interval_text,
    main_tables,
    notes,
    scaled_text,
    scaled_within,
)
from carerl.report.compare.views import View
from carerl.report.pictures.svg import SERIES, Picture
from carerl.report.render import render
from carerl.runs.files import replacing, write_text
from carerl.text.printable import printable

FIGURES = "figures"
ROOM = 8  # further metrics that have room beside each other on the page


def write_comparison(comparison: Comparison, views: Sequence[View], out: str | Path) -> list[Path]:
    """Writes compare.html, .csv, .md and .tex, provenance.csv, differences.csv if there are differences over questions,
    and every picture as SVG and PNG below ``figures``. Returns their paths. ``views``: of the same comparison, see
    :func:`carerl.report.compare.views.views`."""
    directory = Path(out)
    figures = draw(comparison)
    beside = [(view, view.picture()) for view in views]
    texts = {
        "compare.html": page(comparison, figures, beside),
        "compare.csv": csv_text(comparison),
        "compare.md": markdown(comparison, views),
        "compare.tex": latex(comparison, views),
        PROVENANCE_FILE: provenance_csv(comparison),
    }
    if comparison.differences:
        texts[DIFFERENCES_FILE] = differences_csv(comparison)
    for name, text in texts.items():
        write_text(directory / name, text)
    paths = [directory / name for name in texts]
    for picture in [*figures.pictures, *(picture for _, picture in beside if picture)]:
        paths += _write_picture(directory / FIGURES, picture)
    return paths


def _write_picture(directory: Path, picture: Picture) -> list[Path]:
    vector, pixels = (directory / f"{picture.name}.{ending}" for ending in ("svg", "png"))
    write_text(vector, picture.svg())
    with replacing(pixels) as file:
        file.write(picture.png())
    return [vector, pixels]


def terminal_tables(comparison: Comparison, width: int) -> list[Table]:
    """Returns the main tables, then those of differences: a line per row if ``width`` characters are enough, and else
    with intervals and bounds on a second line."""
    wide, narrow = ([*main_tables(comparison, s), *difference_tables(comparison, s)] for s in (" ", "\n"))
    bases = {row.label for row in comparison.rows if row.is_base}
    return [terminal_table(w if _width(w) <= width else n, bases) for w, n in zip(wide, narrow, strict=True)]


def _width(table: TextTable) -> int:
    """Counts the characters of a line, with two between columns."""
    return sum(2 + max(map(len, column)) for column in zip(table.head, *table.lines, strict=True))


def terminal_table(table: TextTable, plain: Collection[str] = ()) -> Table:
    """Makes a table for the terminal. ``plain``: labels that are not bold, beside the lines below others."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(printable(table.title)) if table.title else None)
    made.title_style, made.title_justify = "bold", "left"
    for number, title in enumerate(table.head):
        made.add_column(Text(printable(title)), justify="right" if number else "left", overflow="fold")
    for number, (label, *cells) in enumerate(table.lines):
        shown = [Text(printable(cell)) for cell in cells]
        style = "" if label in plain or number in table.scaled else "bold"
        made.add_row(Text(printable(label), style=style), *shown)
    return made


@dataclass(frozen=True, slots=True)
class _LinkedTable:
    """Holds a text table whose cells lead to a row: lines of (anchor or '', where the numbers come from, cells, True if
    it belongs to the line above it)."""

    title: str
    head: Sequence[str]
    lines: list[tuple[str, str, list[str], bool]]


def page(comparison: Comparison, figures: Figures, views: Sequence[tuple[View, Picture | None]]) -> str:
    """Returns compare.html."""
    methods = sum(not row.is_base for row in comparison.rows)
    runs = sum(len(row.runs) for row in comparison.rows if not row.is_base)
    recipes = list(dict.fromkeys(run.recipe for row in comparison.rows for run in row.runs))
    tints = {row.label: i % SERIES + 1 for i, family in enumerate(families(comparison.rows)) for row in family}
    anchors = {row.label: f"group-{number}" for number, row in enumerate(comparison.rows)}
    rows, lines = [], []
    for source in sources(comparison):
        label = source.row.label
        tint = f"var(--c{tints[label]})" if label in tints else "var(--muted)"
        rows.append(_page_row(source, anchors[label], tint, comparison))
        lines.append(rows[-1])
        for scaled in scaled_within(source.row, comparison.columns):
            lines.append(_scaled_row(source.row, scaled, anchors[label], comparison.columns))
    more = [name for name in comparison.columns if name not in comparison.paper]
    parts = [more[start : start + ROOM] for start in range(0, len(more), ROOM)]
    return render(
        "compare.html.j2",
        title="Accuracy and calibration",
        subtitle=f"{runs} runs, {methods} methods: {', '.join(recipes)}",
        figures=figures,
        tables=[
            (title, [(comparison.columns.index(name), column_label(name, comparison)) for name in names])
            for title, names in (("Table", comparison.paper), *(("Further metrics", part) for part in parts))
        ],
        briefs=[metric_line(name).short for name in comparison.paper],
        rows=rows,
        lines=lines,
        notes=notes(comparison),
        differences=[_linked(table, anchors) for table in difference_tables(comparison, "\n")],
        difference_notes=difference_notes(comparison),
        views=[(view, picture, [_linked(table, anchors) for table in view.tables]) for view, picture in views],
        absent=comparison.absent,
        left_out=comparison.left_out,
    )


def _linked(table: TextTable, anchors: dict[str, str]) -> _LinkedTable:
    lines = []
    for number, ((name, *cells), labels) in enumerate(zip(table.lines, table.sources, strict=True)):
        below = number in table.scaled
        shown = name.removeprefix(f"{labels[0]} ") if below and labels else name  # it stands under its row
        two_lines = [cell.replace(" [", "\n[") for cell in cells]
        lines.append((anchors[labels[0]] if labels else "", f"from {', '.join(labels)}", [shown, *two_lines], below))
    return _LinkedTable(table.title, table.head, lines)


def _scaled_row(row: Row, scaled: Scaled, anchor: str, names: Sequence[str]) -> dict[str, Any]:
    """Returns a line under a row's: the same after post-hoc calibration."""
    cells = []
    for name in names:
        digits, cell = metric_line(name).digits, scaled.cells.get(name)
        text = format_number(cell.mean, digits) if cell else scaled_text(row, scaled, name, digits)
        source = "\n".join(f"{seed}: {format_number(v, digits)}" for seed, v in cell.values.items()) if cell else ""
        cells.append(
            {"text": text, "half": interval_text(cell, digits) if cell else "", "starred": False, "runs": source}
        )
    return {"label": scaled.label, "anchor": anchor, "tint": "", "n": "", "cells": cells}


def _page_row(source: Source, anchor: str, tint: str, comparison: Comparison) -> dict[str, Any]:
    """Returns a row with a cell for every column; its runs have the main table's columns only, for want of room."""
    row, names = source.row, comparison.columns
    cells, by_seed = [], {run.seed: run for run in row.runs}
    for name in names:
        cell, digits = row.cells.get(name), metric_line(name).digits
        if cell is None:
            cells.append({"text": "", "half": "", "starred": False, "runs": ""})
            continue
        values = [f"{by_seed[seed].name}: {format_number(value, digits)}" for seed, value in cell.values.items()]
        cells.append(
            {
                "text": format_number(cell.mean, digits),
                "half": interval_text(cell, digits),
                "starred": cell.starred,
                "runs": "\n".join([*_test_lines(row, cell, digits), *values]),
            }
        )
    runs = []
    for run in row.runs:
        metrics = run.base if row.is_base else run.final
        values = [format_number(metrics.get(name), metric_line(name).digits) for name in comparison.paper]
        recipe = "" if run.name.startswith(run.recipe) or run.recipe == source.recipes else run.recipe
        runs.append({"name": run.name, "seed": run.seed, "recipe": recipe, "code": run.code, "cells": values})
    note = "Before training; runs of one seed share their base model and count once." if row.is_base else ""
    if row.baseline:
        note = f"Compared with {row.baseline}."
    return {
        "label": row.label,
        "anchor": anchor,
        "tint": tint,
        "n": count_text(row),
        "cells": cells,
        "runs": runs,
        "source": source.text,
        "several_codes": len({run.code for run in row.runs}) > 1,
        "note": note,
    }


def _test_lines(row: Row, cell: Cell, digits: int) -> list[str]:
    if cell.difference is None:
        return []
    change = f"{format_number(cell.difference, digits, sign=True)} to {row.baseline} over {cell.pairs} seeds"
    return [change + (f", Holm p = {cell.p_holm:.3g}" if cell.p_holm is not None else "")]
