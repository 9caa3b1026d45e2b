"""What an evaluation of a model came to, for people: a column a benchmark."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carerl.report.metric_table import METRIC_LINES, format_number, metric_line, suite_label
from carerl.report.run_directory import RunDirectory

_OF_SUITE = re.compile(r"(?:eval|calibration)/([^/]+)/([^/]+)")
# of a benchmark's metrics, in this order; all of them are in the evaluation's file
SHOWN = {
    "accuracy": "accuracy",
    "maj": "majority right",
    "f1": "F1 of the unanswerable",
    "precision": "precision",
    "recall": "recall",
    "hallucination": "hallucination",
    "answered": "answered",
    "wrong": "wrong",
    "abstained": "abstained",
    "unparsed": "no answer found",
    "truncated": "cut off before one",
    "invalid": "could not be graded",
    "sampled_entropy": "-log p (nats/token)",
    "ece": "ECE of votes",
    "ece_floor_votes": "  of a perfect model",
    "ece_debiased": "  debiased",
    "brier": "Brier",
    "auroc": "AUROC",
    "accuracy_at_80": "accuracy on the surest 80 %",
    "sequence_ece": "ECE of likelihood",
    "verbalized_ece": "ECE of stated confidence",
}


CALIBRATION = {
    "ece", "ece_floor_votes", "ece_debiased", "brier", "auroc", "accuracy_at_80", "sequence_ece", "verbalized_ece",
}  # fmt: skip
LABEL_WIDTH, CELL_WIDTH = 30, 24


def evaluation_rows(record: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Benchmarks, and lines of (label, a cell each). Where no metric belongs to a benchmark, as in the tiny world,
    there is one column, without a name."""
    metrics, intervals = record["metrics"], record.get("intervals") or {}
    cells: dict[tuple[str, str], str] = {}
    for name, value in metrics.items():
        if match := _OF_SUITE.fullmatch(name):
            cells[match[1], match[2]] = _cell(name, value, intervals.get(name))
    suites = list(dict.fromkeys(suite for suite, _ in cells))
    if not suites:
        return [""], [(metric_line(name).label, [_cell(name, value, None)]) for name, value in metrics.items()]
    for suite in suites:  # the calibration of no answers is no calibration
        if metrics.get(f"eval/{suite}/answered") == 0:
            for kind in CALIBRATION & {kind for _, kind in cells}:
                cells.pop((suite, kind), None)
    kinds = [kind for kind in SHOWN if any((suite, kind) in cells for suite in suites)]
    return [suite_label(s) for s in suites], [(SHOWN[k], [cells.get((s, k), "–") for s in suites]) for k in kinds]


def _cell(name: str, value: float, interval: Any) -> str:
    digits = METRIC_LINES[name].digits if name in METRIC_LINES else 3
    text = format_number(value, digits)
    if interval:
        text += f" [{format_number(interval[0], digits)}, {format_number(interval[1], digits)}]"
    return text


def print_evaluation(record: Mapping[str, Any], directory: RunDirectory, file: IO[str] | None = None) -> None:
    """The table, a line a metric, benchmarks side by side; colours on a terminal only."""
    stream = file or sys.stdout
    suites, lines = evaluation_rows(record)
    console = Console(file=stream, width=None if stream.isatty() else LABEL_WIDTH + CELL_WIDTH * max(2, len(suites)))
    fitting = max(1, (console.width - LABEL_WIDTH) // CELL_WIDTH)
    for start in range(0, len(suites), fitting):  # as many benchmarks beside each other as there is room for
        part = slice(start, start + fitting)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for suite in suites[part]:
            table.add_column(suite, justify="right", no_wrap=True)
        for label, cells in lines:
            table.add_row(label, *cells[part])
        console.print(table)
    if record.get("intervals") and suites != [""]:
        console.print(Text("[low, high]: 95 % intervals over questions", style="bright_black"))
    console.print(Text(f"run directory: {directory.path}", style="bright_black"), soft_wrap=True)
