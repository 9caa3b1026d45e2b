"""Shows the table at the end of a run: base → after, with the change."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from carerl.metrics.table import clock, format_number, metric_line, summary_rows
from carerl.text.printable import printable
from carerl.tracking.live import change_text

COLUMNS = ("", "base", "after", "change")


def _rows(base: Mapping[str, float], final: Mapping[str, float]) -> list[tuple[str, str, str, Text]]:
    """Returns label, base, after and coloured change of each metric."""
    found = []
    for name, before, after in summary_rows(base, final):
        line = metric_line(name)
        first, last = format_number(before, line.digits), format_number(after, line.digits)
        found.append((line.label, first, last, change_text(name, before, after)))
    return found


def _notes(seconds: float | None, run_dir: str) -> list[str]:
    took = [f"finished in {clock(seconds)}"] if seconds is not None else []
    return took + ([f"run directory: {run_dir}"] if run_dir else [])


def summary_table(
    base: Mapping[str, float],
    final: Mapping[str, float],
    *,
    title: str = "",
    seconds: float | None = None,
    run_dir: str = "",
) -> RenderableType:
    """Returns the table for a terminal. ``base`` and ``final`` must be of the same questions."""
    table = Table(box=box.SIMPLE_HEAD, title_style="bold", title_justify="left", pad_edge=False)
    table.title = Text(printable(title)) if title else None
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    for label, before, after, change in _rows(base, final):
        table.add_row(Text(printable(label)), before, Text(after, style="bold"), change)
    return Group(table, *(Text(note, style="bright_black") for note in _notes(seconds, run_dir)))


def summary_text(
    base: Mapping[str, float],
    final: Mapping[str, float],
    *,
    title: str = "",
    seconds: float | None = None,
    run_dir: str = "",
) -> str:
    """Returns the same table in plain characters, for logs and pipes, without blanks at the ends of lines."""
    rows = [COLUMNS, *((*texts, change.plain) for *texts, change in _rows(base, final))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [title] if title else []
    for label, *cells in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(f"{label.ljust(widths[0])}  {numbers}".rstrip())
    return printable("\n".join([*lines, *_notes(seconds, run_dir)])) + "\n"


def print_summary(
    base: Mapping[str, float],
    final: Mapping[str, float],
    *,
    title: str = "",
    seconds: float | None = None,
    run_dir: str = "",
    file: IO[str] | None = None,
) -> None:
    """Prints the coloured table on a terminal, the plain one elsewhere."""
    stream = file or sys.stdout
    if stream.isatty():
        Console(file=stream).print(summary_table(base, final, title=title, seconds=seconds, run_dir=run_dir))
    else:
        stream.write(summary_text(base, final, title=title, seconds=seconds, run_dir=run_dir))
        stream.flush()
