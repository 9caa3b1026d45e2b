"""What an evaluation of a model came to, for people: one row a benchmark."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carerl.report.metric_table import METRIC_LINES, format_number, metric_line
from carerl.report.run_directory import RunDirectory

_OF_SUITE = re.compile(r"(?:eval|calibration)/([^/]+)/([^/]+)")


def evaluation_rows(record: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Columns, and for each benchmark its cells. ``eval/gsm8k/accuracy`` is column accuracy of benchmark gsm8k; what
    belongs to no benchmark is told in a row of its own, named ``all``."""
    metrics, intervals = record["metrics"], record.get("intervals") or {}
    columns: list[str] = []
    rows: dict[str, dict[str, str]] = {}
    own = {name for name in metrics if _OF_SUITE.fullmatch(name)}
    for name in (own and sorted(own, key=list(metrics).index)) or metrics:
        match = _OF_SUITE.fullmatch(name)
        suite, column = (match[1], match[2]) if match else ("all", metric_line(name).label)
        if column not in columns:
            columns.append(column)
        rows.setdefault(suite, {})[column] = _cell(name, metrics[name], intervals.get(name))
    return columns, list(rows.items())


def _cell(name: str, value: float, interval: Any) -> str:
    digits = METRIC_LINES[name].digits if name in METRIC_LINES else 3
    text = format_number(value, digits)
    if interval:
        text += f" [{format_number(interval[0], digits)}, {format_number(interval[1], digits)}]"
    return text


def print_evaluation(record: Mapping[str, Any], directory: RunDirectory, file: IO[str] | None = None) -> None:
    """The table, one line a metric, benchmarks side by side; colours on a terminal only."""
    stream = file or sys.stdout
    columns, rows = evaluation_rows(record)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for suite, _ in rows:
        table.add_column(suite, justify="right", no_wrap=True)
    for column in columns:
        table.add_row(column, *(cells.get(column, "–") for _, cells in rows))
    console = Console(file=stream, width=None if stream.isatty() else 40 + 28 * len(rows))
    console.print(table)
    if record.get("intervals"):
        console.print(Text("[low, high]: 95 % intervals over questions", style="bright_black"))
    console.print(Text(f"run directory: {directory.path}", style="bright_black"), soft_wrap=True)
