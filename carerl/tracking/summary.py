"""The table at the end of a run: base → after, with the change."""

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


def summary_table(
    base: Mapping[str, float],
    final: Mapping[str, float],
    *,
    title: str = "",
    seconds: float | None = None,
    run_dir: str = "",
) -> RenderableType:
    """A rich renderable. The caller sees to it that both come from the same questions."""
    table = Table(box=box.SIMPLE_HEAD, title_style="bold", title_justify="left", pad_edge=False)
    table.title = Text(printable(title)) if title else None
    table.add_column("")
    for column in ("base", "after", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, before, after in summary_rows(base, final):
        line = metric_line(name)
        table.add_row(
            Text(printable(line.label)),
            format_number(before, line.digits),
            Text(format_number(after, line.digits), style="bold"),
            change_text(name, before, after),
        )
    notes = []
    if seconds is not None:
        notes.append(f"finished in {clock(seconds)}")
    if run_dir:
        notes.append(f"run directory: {run_dir}")
    return Group(table, *(Text(note, style="bright_black") for note in notes))


def summary_text(
    base: Mapping[str, float],
    final: Mapping[str, float],
    *,
    title: str = "",
    seconds: float | None = None,
    run_dir: str = "",
) -> str:
    """The same in plain characters, for logs and pipes; every line ends without trailing blanks."""
    rows = [("", "base", "after", "change")]
    for name, before, after in summary_rows(base, final):
        line = metric_line(name)
        change = None if before is None or after is None else after - before
        rows.append(
            (
                line.label,
                format_number(before, line.digits),
                format_number(after, line.digits),
                format_number(change, line.digits, sign=True),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [title] if title else []
    for row in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"{row[0].ljust(widths[0])}  {numbers}".rstrip())
    if seconds is not None:
        lines.append(f"finished in {clock(seconds)}")
    if run_dir:
        lines.append(f"run directory: {run_dir}")
    return printable("\n".join(lines)) + "\n"


def print_summary(
    base: Mapping[str, float],
    final: Mapping[str, float],
    *,
    title: str = "",
    seconds: float | None = None,
    run_dir: str = "",
    file: IO[str] | None = None,
) -> None:
    """The coloured table on a terminal, the plain one elsewhere."""
    stream = file or sys.stdout
    if stream.isatty():
        Console(file=stream).print(summary_table(base, final, title=title, seconds=seconds, run_dir=run_dir))
    else:
        stream.write(summary_text(base, final, title=title, seconds=seconds, run_dir=run_dir))
        stream.flush()
