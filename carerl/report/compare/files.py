"""Writes a comparison as Markdown, CSV and LaTeX; each cell leads to its runs, with their recipe, seeds and code."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from carerl.report.compare.comparison import Comparison
from carerl.report.compare.frontier import families
from carerl.report.compare.pairs import gap_metric
from carerl.report.compare.rows import Cell, Row
from carerl.report.compare.tables import (
    TextTable,
    difference_notes,
    difference_tables,
    main_tables,
    notes,
    scaled_name,
)
from carerl.report.compare.views import View
from carerl.runs.find import Run

CSV_FIELDS = (
    *("method", "metric", "n", "mean", "half_interval"),
    *("baseline", "pairs", "difference", "bound", "gap_closed", "p", "p_holm", "starred"),
    *("seeds", "values", "runs"),
    *("family", "alpha", "beta", "anchor_weight"),
    *("interval_low", "interval_high", "interval_over", "recipe", "code", "commits"),
)
DIFFERENCE_FIELDS = (
    *("method", "baseline", "benchmark", "metric", "questions", "in_method_only", "in_baseline_only", "changed"),
    *("difference", "low", "high", "p", "p_holm", "starred", "run", "baseline_run"),
)
PROVENANCE_FIELDS = ("key", "method", "recipe", "seed", "run", "code", "commit", "changed", "directory", "evaluates")
PROVENANCE_FILE, DIFFERENCES_FILE = "provenance.csv", "differences.csv"


@dataclass(frozen=True, slots=True)
class Source:
    """Names a row's runs. ``key``: the letter that marks the row in tables of text."""

    key: str
    row: Row

    @property
    def recipes(self) -> str:
        return ", ".join(dict.fromkeys(run.recipe for run in self.row.runs))

    @property
    def code(self) -> str:
        """The versions of the code, with the number of runs where they differ."""
        counts: dict[str, int] = {}
        for run in self.row.runs:
            counts[run.code] = counts.get(run.code, 0) + 1
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{code} ({count} runs)" for code, count in counts.items())

    @property
    def seeds(self) -> str:
        """``1000–1007`` where they follow one another.

        >>> from types import SimpleNamespace as N
        >>> Source("a", N(runs=[N(seed=s) for s in (3, 1, 2)])).seeds
        '1–3'
        """
        seeds = sorted({run.seed for run in self.row.runs})
        if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
            return f"{seeds[0]}–{seeds[-1]}"
        return ", ".join(map(str, seeds))

    @property
    def text(self) -> str:
        runs = len(self.row.runs)
        return f"{self.recipes}; code {self.code}; {runs} run{'s' if runs > 1 else ''}, seeds {self.seeds}"


def sources(comparison: Comparison) -> list[Source]:
    """Returns a source for each row, in their order; the keys are a … z, aa, ab …"""
    return [Source(_key(number), row) for number, row in enumerate(comparison.rows)]


def _key(number: int) -> str:
    """Returns the key of a number: a … z, aa, ab …

    >>> _key(0), _key(25), _key(26)
    ('a', 'z', 'aa')
    """
    letters = ""
    while number >= 0:
        letters = ascii_lowercase[number % 26] + letters
        number = number // 26 - 1
    return letters


def markdown(comparison: Comparison, views: Sequence[View]) -> str:
    """Returns the tables and their notes; a letter behind a method's name leads to its runs, at the end."""
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
    return f"{name} [{', '.join(keys[label] for label in labels)}]" if labels else name


def _markdown_notes(lines: Sequence[str]) -> str:
    """Joins lines by a line break: two blanks at the end."""
    return "  \n".join(map(_markdown_text, lines))


def _markdown_text(text: str) -> str:
    """Escapes text, so that a name neither opens a tag nor ends a cell."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def _markdown_reasons(found: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {_markdown_code(what)}: {_markdown_text(reason)}" for what, reason in found)


def _markdown_code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def csv_text(comparison: Comparison) -> str:
    """Returns a line per method and metric, with every seed's value and the runs, recipe and code behind it."""
    numbered = {row.label: number for number, family in enumerate(families(comparison.rows)) for row in family}
    gap = gap_metric(comparison.columns)
    lines = []
    for label, row, name, cell in _csv_cells(comparison):
        closed = row.gap_closed if name == gap and label == row.label else None
        mean, half, *paired = _texts(cell.mean, cell.half, cell.difference, cell.bound, closed, cell.p, cell.p_holm)
        behind = [run for run in row.runs if run.seed in cell.values]
        over = "seeds" if cell.half is not None else "questions" if cell.questions else ""
        lines.append(
            (
                *(label, name, len(cell.values), mean, half),
                *(row.baseline, cell.pairs, *paired, int(cell.starred)),
                *(" ".join(map(str, cell.values)), " ".join(map(repr, cell.values.values()))),
                " ".join(run.name for run in behind),
                *("" if v is None else v for v in (numbered.get(row.label), *_position(row))),
                *(_texts(*cell.bounds) if cell.bounds else ("", "")),
                *(over, *_distinct([run.recipe for run in behind], [run.code for run in behind])),
                *_distinct([str(run.versions.get("commit") or "") for run in behind]),
            )
        )
    return _csv(CSV_FIELDS, lines)


def _csv_cells(comparison: Comparison) -> Iterator[tuple[str, Row, str, Cell]]:
    """Yields method, row, metric and cell of the tables' columns, of calibration by benchmark, and of both after
    post-hoc calibration."""
    for row in comparison.rows:
        shown = {name: row.cells[name] for name in comparison.columns if name in row.cells}
        for name, cell in {**row.calibration, **shown}.items():
            yield row.label, row, name, cell
        for scaled in row.scaled:
            for name, cell in scaled.cells.items():
                yield scaled_name(row, scaled), row, name, cell


def differences_csv(comparison: Comparison) -> str:
    """Returns a line per row, benchmark and metric: row − baseline over the questions that both were asked."""
    return _csv(
        DIFFERENCE_FIELDS,
        (
            (
                *(one.row.label, one.baseline.label, one.suite, name),
                *(len(one.matched.ids), one.matched.alone, one.matched.other_alone, one.matched.changed),
                *_texts(found.value, found.low, found.high, found.p, one.p_holm.get(name)),
                *(int(one.starred(name)), one.row.runs[0].name, one.baseline.runs[0].name),
            )
            for one in comparison.differences
            for name, found in one.estimates.items()
        ),
    )


def provenance_csv(comparison: Comparison) -> str:
    """Returns a line per row and run. ``evaluates``: the run whose checkpoint was evaluated."""
    return _csv(
        PROVENANCE_FIELDS,
        (
            (source.key, source.row.label, run.recipe, run.seed, run.name, *_code(run), *_places(run))
            for source in sources(comparison)
            for run in source.row.runs
        ),
    )


def _csv(head: Sequence[str], lines: Iterable[Iterable[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(map(csv_cell, cells) for cells in lines)
    return stream.getvalue()


def csv_cell(value: Any) -> Any:
    """Returns a cell of a CSV file, with a ``'`` before text that a spreadsheet would take for a formula. Numbers stay.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell("-0.25 -0.5"), csv_cell(-1)
    ("'=HYPERLINK(1)", '-0.25 -0.5', -1)
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    return value if all(map(_is_number, value.split())) else f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _code(run: Run) -> tuple[str, str, str]:
    changed = run.versions.get("dirty")
    return (
        str(run.versions.get("carerl") or ""),
        str(run.versions.get("commit") or ""),
        "" if changed is None else str(int(bool(changed))),
    )


def _places(run: Run) -> tuple[str, str]:
    return str(run.path), str(run.trained_in or "")


def _texts(*numbers: float | None) -> list[str]:
    """Returns the numbers with every digit; nothing for one that is missing or not finite."""
    return ["" if number is None or not math.isfinite(number) else repr(number) for number in numbers]


def _distinct(*columns: Sequence[str]) -> list[str]:
    return ["; ".join(dict.fromkeys(filter(None, column))) for column in columns]


def _position(row: Row) -> tuple[float | None, ...]:
    run = row.runs[0]
    return (None, None, None) if row.is_base else (run.alpha, run.beta, run.weight)


def latex(comparison: Comparison, views: Sequence[View]) -> str:
    """Returns all tables for ``booktabs``, each with its notes, a mark behind each method, and what the marks stand
    for."""
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
        mark = rf"\textsuperscript{{{','.join(keys[label] for label in labels)}}}" if labels else ""
        lines.append(" & ".join([f"{_tex(name)}{mark}", *map(_tex, cells)]) + r" \\")
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
    r"""Escapes text for LaTeX. A leading minus is one, a hyphen elsewhere stays.

    >>> _tex("none_grpo & 5 %"), _tex("-0.12 ± 0.01*")
    ('none\\_grpo \\& 5 \\%', '$-$0.12 $\\pm$ 0.01\\textsuperscript{*}')
    """
    return _TEX_SIGNS.sub(lambda match: _TEX[match.group()], re.sub(r"(?<![\w])-(?=[\d.])", "−", text))
