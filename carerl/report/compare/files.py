"""A comparison as Markdown, CSV and LaTeX; each cell leads to its runs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence

from carerl.report.compare.differences import Difference
from carerl.report.compare.frontier import families
from carerl.report.compare.provenance import csv_cell, sources
from carerl.report.compare.rows import Cell, Comparison, Row, gap_metric
from carerl.report.compare.tables import (
    TextTable,
    difference_notes,
    difference_tables,
    main_tables,
    notes,
    scaled_cells,
    scaled_name,
)
from carerl.report.compare.views import View

CSV_FIELDS = (
    *("method", "metric", "n", "mean", "half_interval"),
    *("baseline", "pairs", "difference", "bound", "gap_closed", "p", "p_holm", "starred"),
    *("seeds", "values", "runs"),
    *("family", "alpha", "beta"),
    *("interval_low", "interval_high", "interval_over", "recipe", "code", "commits"),
)
DIFFERENCE_FIELDS = (
    *("method", "baseline", "benchmark", "metric", "questions", "in_method_only", "in_baseline_only", "changed"),
    *("difference", "low", "high", "p", "p_holm", "starred", "run", "baseline_run"),
)
PROVENANCE_FILE, DIFFERENCES_FILE = "provenance.csv", "differences.csv"


def markdown(comparison: Comparison, views: Sequence[View] = ()) -> str:
    """Tables and what is needed to read them; a letter behind a method's name leads to its runs, at the end."""
    keys = {source.row.label: source.key for source in sources(comparison)}
    first, *further = main_tables(comparison)
    parts = [_markdown_table(first, keys)]
    for table in further:
        parts += [f"**{table.title}**", _markdown_table(table, keys)]
    parts.append(_markdown_notes(notes(comparison)))
    for table in difference_tables(comparison):
        parts += [f"**{table.title}**", _markdown_table(table, keys)]
    parts.append(_markdown_notes(difference_notes(comparison)))
    for view in views:
        for table in view.tables:
            parts += [f"**{table.title}**", _markdown_table(table, keys)]
        parts += [_markdown_notes(view.notes)] if view.tables else [f"**{view.title}**", _markdown_notes(view.notes)]
    if comparison.absent:
        parts += [
            "Absent cells:",
            _markdown_reasons(comparison.absent),
        ]
    if comparison.left_out:
        parts += [
            "Left out:",
            _markdown_reasons(comparison.left_out),
        ]
    parts.append(f"Provenance (directories and commits of all runs: {PROVENANCE_FILE}):")
    for source in sources(comparison):
        runs = ", ".join(_markdown_code(run.name) for run in source.row.runs)
        parts.append(f"- [{source.key}] {_markdown_text(source.row.label)}: {_markdown_text(source.text)}: {runs}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: TextTable, keys: dict[str, str]) -> str:
    marked = [
        [_marked(line[0], labels, keys), *line[1:]] for line, labels in zip(table.lines, table.sources, strict=True)
    ]
    head, *body = ("| " + " | ".join(map(_markdown_text, cells)) + " |" for cells in [table.head, *marked])
    return "\n".join([head, "|---|" + "--:|" * (len(table.head) - 1), *body])


def _marked(name: str, labels: Sequence[str], keys: dict[str, str]) -> str:
    return f"{name} [{', '.join(keys[label] for label in labels)}]"


def _markdown_notes(lines: Sequence[str]) -> str:
    """Two blanks at the end of a line break it."""
    return "  \n".join(map(_markdown_text, lines))


def _markdown_text(text: str) -> str:
    """A name is text: it neither opens a tag nor ends a cell."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def _markdown_reasons(found: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {_markdown_code(what)}: {_markdown_text(reason)}" for what, reason in found)


def _markdown_code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def csv_text(comparison: Comparison) -> str:
    """One line per method and metric, with every seed's value and the runs, recipe and code that they come from."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    numbered = {row.label: number for number, family in enumerate(families(comparison.rows)) for row in family}
    gap = gap_metric(comparison.columns)
    for label, row, name, cell in _csv_cells(comparison):
        numbers = (
            *(cell.mean, cell.half, cell.difference, cell.bound),
            *(row.gap_closed if name == gap and label == row.label else None, cell.p, cell.p_holm),
        )
        mean, half, *paired = ("" if v is None else repr(v) for v in numbers)
        behind = [run for run in row.runs if run.seed in cell.values]
        over = "seeds" if cell.half is not None else "questions" if cell.questions else ""
        writer.writerow(
            map(
                csv_cell,
                (
                    *(label, name, len(cell.values), mean, half),
                    *(row.baseline, cell.pairs, *paired, int(cell.starred)),
                    *(" ".join(map(str, cell.values)), " ".join(map(repr, cell.values.values()))),
                    " ".join(run.name for run in behind),
                    *("" if v is None else v for v in (numbered.get(row.label), *_position(row))),
                    *(map(repr, cell.bounds) if cell.bounds else ("", "")),
                    *(over, *_distinct([run.recipe for run in behind], [run.code for run in behind])),
                    *_distinct([str(run.versions.get("commit") or "") for run in behind]),
                ),
            )
        )
    return stream.getvalue()


def _csv_cells(comparison: Comparison) -> Iterator[tuple[str, Row, str, Cell]]:
    """Method, row, metric and cell: of the tables' columns, of calibration by benchmark, and of both after temperature
    scaling."""
    for row in comparison.rows:
        shown = {name: row.cells[name] for name in comparison.columns if name in row.cells}
        for name, cell in {**row.calibration, **shown}.items():
            yield row.label, row, name, cell
        for name, cell in scaled_cells(row).items():
            yield scaled_name(row), row, name, cell


def differences_csv(differences: Sequence[Difference]) -> str:
    """One line per row, benchmark and metric: row − baseline over the questions that both were asked."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(DIFFERENCE_FIELDS)
    for one in differences:
        for name, found in one.estimates.items():
            p_holm = one.p_holm.get(name)
            numbers = (found.value, found.low, found.high, found.p, p_holm)
            writer.writerow(
                map(
                    csv_cell,
                    (
                        *(one.row.label, one.baseline.label, one.suite, name),
                        *(len(one.matched.ids), one.matched.alone, one.matched.other_alone, one.matched.changed),
                        *("" if number is None or not math.isfinite(number) else repr(number) for number in numbers),
                        *(int(one.starred(name)), one.row.runs[0].name, one.baseline.runs[0].name),
                    ),
                )
            )
    return stream.getvalue()


def _distinct(*columns: Sequence[str]) -> list[str]:
    return ["; ".join(dict.fromkeys(filter(None, column))) for column in columns]


def _position(row: Row) -> tuple[float | None, float | None]:
    return (None, None) if row.is_base else (row.runs[0].alpha, row.runs[0].beta)


def latex(comparison: Comparison, views: Sequence[View] = ()) -> str:
    """The main tables, those of differences and the views' for ``booktabs``, each with its notes, a mark behind each
    method, and what the marks stand for."""
    keys = {source.row.label: source.key for source in sources(comparison)}
    marks = [
        rf"\textsuperscript{{{source.key}}}~{_tex(source.text)}; {_tex(f'run directories: {PROVENANCE_FILE}')}."
        for source in sources(comparison)
    ]
    parts = [r"% \usepackage{booktabs,amssymb}"]
    for table in main_tables(comparison):
        parts.append(_latex_table(table, keys, [*map(_tex, notes(comparison)), *marks]))
    further = [(table, difference_notes(comparison)) for table in difference_tables(comparison)]
    further += [(table, view.notes) for view in views for table in view.tables]
    for table, lines in further:
        shown = {label for labels in table.sources for label in labels}
        own = [mark for source, mark in zip(sources(comparison), marks, strict=True) if source.row.label in shown]
        parts.append(_latex_table(table, keys, [*map(_tex, lines), *own]))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: TextTable, keys: dict[str, str], below: Sequence[str]) -> str:
    lines = []
    for (name, *cells), labels in zip(table.lines, table.sources, strict=True):
        mark = ",".join(keys[label] for label in labels)
        lines.append(" & ".join([rf"{_tex(name)}\textsuperscript{{{mark}}}", *map(_tex, cells)]) + r" \\")
    caption = [rf"\caption{{{_tex(table.title)}}}"] if table.title else []
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering\small",
            *caption,
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, table.head)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize",
            " \\\\\n".join(below),
            r"\end{minipage}",
            r"\end{table}",
        ]
    )


_TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "*": r"\textsuperscript{*}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "<": r"$<$",
    ">": r"$>$",
    "✓": r"\checkmark{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "·": r"$\cdot$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "²": r"$^2$",
    "…": r"\dots{}",
}
_TEX_SIGNS = re.compile("|".join(map(re.escape, _TEX)))


def _tex(text: str) -> str:
    r"""Text as LaTeX takes it. A leading minus is one, a hyphen elsewhere stays.

    >>> _tex("none_grpo & 5 %"), _tex("-0.12 ± 0.01*")
    ('none\\_grpo \\& 5 \\%', '$-$0.12 $\\pm$ 0.01\\textsuperscript{*}')
    """
    return _TEX_SIGNS.sub(lambda match: _TEX[match.group()], re.sub(r"(?<![\w])-(?=[\d.])", "−", text))
