"""Prints the results of an evaluation of a model, a column for each benchmark."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carerl.calibration import Estimate
from carerl.metrics.table import by_suite, format_number, metric_line, shown_in, suite_label
from carerl.report.decoding import MethodTable, method_tables
from carerl.report.posthoc import (
    MAJORITY,
    SCALERS,
    Rescaled,
    effect,
    fit_label,
    kind_of,
    measures_of,
    no_validation,
    rescale,
)
from carerl.runs.directory import RunDirectory
from carerl.runs.find import domains, flatten
from carerl.runs.questions import intervals, reported
from carerl.runs.tables import read_questions
from carerl.text.printable import printable

_OF_SUITE = re.compile(r"(?:eval|calibration)/([^/]+)/[^/]+")
ABSENT = f"{', '.join(scaler.sign for scaler in SCALERS)}: absent: "
LABEL_WIDTH, CELL_WIDTH = 30, 24
METHODS_WIDTH = 120  # of a table of methods, unless a terminal has another
BETWEEN = 3  # columns of a terminal between two of a table
TREES = "decode.show=ID prints the trees of a question; report.html has one of each benchmark"
Lines = list[tuple[str, list[str]]]
ScaledLines = list[tuple[str, str, list[str]]]  # the label of the line that a scaler changes, then as in Lines


def evaluation_rows(
    record: Mapping[str, Any], settings: Mapping[str, Any] = MappingProxyType({})
) -> tuple[list[str], Lines]:
    """Returns benchmarks, and lines of (label, a cell each). If no metric belongs to a benchmark, as in the tiny world,
    there is one column without a name. The first line says which benchmarks are of the data that was trained on, if
    ``settings``, the run's, tell."""
    metrics, bounds = record["metrics"], record.get("intervals") or {}
    suites = _suites(metrics)
    if not suites:
        own = {n: v for n, v in metrics.items() if not n.startswith("decode/")}  # those have tables of their own
        alone = {n: v for n, v in own.items() if not metric_line(n).is_part}
        return [""], [(metric_line(n).label, [cell_text(n, v, bounds.get(n))]) for n, v in alone.items()]
    silent = tuple(f"calibration/{suite}/" for suite in suites if metrics.get(f"eval/{suite}/answered") == 0)
    there = [name for name in metrics if not name.startswith(silent)]  # the calibration of no answers is none
    cells = {name: cell_text(name, metrics[name], bounds.get(name)) for name in there}
    lines = []
    for metric in shown_in("evaluation"):
        names = [metric.name.replace("{suite}", suite) for suite in suites]
        if any(name in cells for name in names):
            lines.append((metric.label_in("evaluation"), [cells.get(name, "–") for name in names]))
    if known := domains(settings, suites):
        lines.insert(0, ("trained on", [known[suite] for suite in suites]))
    return [suite_label(s) for s in suites], lines


def with_intervals(
    record: Mapping[str, Any], questions: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Adds intervals over questions to metrics of ``record`` that lack them: the tiny world's, F1 and hallucination. An
    ECE beside its debiased estimate needs no second one."""
    metrics, own = record["metrics"], dict(record.get("intervals") or {})
    lines = {name: metric_line(name) for name in metrics if name not in own}
    wanted = {name: metrics[name] for name, line in lines.items() if not (line.suite and line.biased)}
    return {**record, "intervals": {**intervals(questions, wanted, settings), **own}}


def _suites(metrics: Mapping[str, float]) -> list[str]:
    """Returns the suites in their order. The tiny world's metrics have names of their own: its suites make no
    columns."""
    suites = dict.fromkeys(match[1] for name in metrics if (match := _OF_SUITE.fullmatch(name)))
    return list(suites) if by_suite(metrics) else []


def scaled_rows(
    record: Mapping[str, Any], questions: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> tuple[ScaledLines, list[str]]:
    """Returns lines with each benchmark's calibration after every scaler, to stand under those of
    :func:`evaluation_rows`, and what was fitted, in words. Without a fit: no lines, and the reason. ``settings``: the
    run's, nested."""
    shown = reported(questions, record.get("reliability") or {})
    shown = {suite: found for suite, found in shown.items() if found.answered != 0}
    if not questions:
        return [], [f"{ABSENT}no table of questions beside the evaluation"]
    try:
        found = rescale(questions, shown)
    except ValueError as error:
        return [], [f"{ABSENT}{error}"]
    if found is None:
        return [], [f"{ABSENT}{no_validation(flatten(settings))}"]
    suites = _suites(record["metrics"])
    lines: ScaledLines = []
    for estimator in dict.fromkeys(one.fit.estimator for one in found):
        lines += _scaled_lines([one for one in found if one.fit.estimator == estimator], estimator, suites)
    words = [f"{fit_label([one.fit])}; {effect(one.fit)}." for one in found]
    return lines, [*words, "A question without an answer keeps confidence 0."] if words else words


def _scaled_lines(found: Sequence[Rescaled], estimator: str, suites: Sequence[str]) -> ScaledLines:
    """Returns the lines of one estimator, measure by measure and scaler by scaler. A sample's confidence has those that
    have a line before scaling as well."""
    lines: ScaledLines = []
    for name, plain in _plain_labels(estimator).items():
        for one in found:
            after = f"{plain} {one.fit.scaler.sign}"
            texts = {suite: _estimate_text(of[name]) for suite, of in one.suites.items() if name in of}
            if texts and suites:
                lines.append((plain, after, [texts.get(suite, "–") for suite in suites]))
            elif not suites:
                lines += [(plain, f"{suite_label(s)}, {after}", [text]) for s, text in texts.items()]
    return lines


def _plain_labels(estimator: str) -> dict[str, str]:
    """Maps a measure to the label of its line; of the majority, to that of its column, which is short."""
    rows = {metric.kind: metric.label_in("evaluation") for metric in shown_in("evaluation")}
    heads = {metric.kind: metric.label_in("column") for metric in shown_in("column")}
    names = [measure.name for measure in measures_of(estimator)]
    if estimator == MAJORITY:
        return {name: heads[name] for name in names}
    return {name: rows[kind] for name in names if (kind := kind_of(estimator, name)) in rows}


def _estimate_text(estimate: Estimate) -> str:
    bounds = [estimate.low, estimate.high]
    return cell_text("", estimate.value, bounds if math.isfinite(estimate.low) else None)


def cell_text(name: str, value: float | None, interval: Any) -> str:
    digits = metric_line(name).digits
    text = format_number(value, digits)
    if interval:
        text += f" [{format_number(interval[0], digits)}, {format_number(interval[1], digits)}]"
    return text


def interval_words(record: Mapping[str, Any]) -> str:
    text = "[low, high]: 95 % intervals over questions"
    if any(line.biased and not line.suite for line in map(metric_line, record["intervals"])):
        text += "; that of an ECE is of the debiased estimate, and the figure can lie above it"
    return text


def print_evaluation(record: Mapping[str, Any], directory: RunDirectory, file: IO[str] | None = None) -> None:
    """Prints the table, a line for each metric, benchmarks side by side; colours on a terminal only."""
    stream = file or sys.stdout
    questions, settings = read_questions(directory.evaluations, record["step"]), directory.read_config()
    record = with_intervals(record, questions, settings)
    suites, lines = evaluation_rows(record, settings)
    scaled, words = scaled_rows(record, questions, settings)
    lines += [(label, cells) for _, label, cells in scaled]
    tables = method_tables(record)
    labels = max([LABEL_WIDTH, *(len(label) + 1 for label, _ in lines)])
    widest = max(2, len(suites))
    console = Console(file=stream, width=None if stream.isatty() else labels + CELL_WIDTH * widest)
    _print_table(console, suites, lines, labels)
    for table in tables:
        _print_methods(stream, table)
    if record.get("intervals"):
        console.print(Text(interval_words(record), style="bright_black"))
    for line in words:
        console.print(Text(printable(line), style="bright_black"))
    if tables:
        console.print(Text(TREES, style="bright_black"), soft_wrap=True)
    console.print(Text(f"run directory: {directory.path}", style="bright_black"), soft_wrap=True)


def _print_methods(stream: IO[str], table: MethodTable) -> None:
    """Prints the methods of a suite beside each other, with each interval below its figure: in as few tables of equal
    width as there is room for."""
    console = Console(file=stream, width=None if stream.isatty() else METHODS_WIDTH)
    heads = [method for method, _ in table.lines]
    lines = [(label, [cell.replace(" [", "\n[") for cell in cells]) for label, cells in table.turned]
    parts = heads + [part for _, cells in lines for cell in cells for part in cell.split("\n")]
    cell_width, labels = max(map(len, parts)) + BETWEEN, max(len(label) for label, _ in lines) + BETWEEN
    fitting = max(1, (console.width - labels) // cell_width)
    size = -(-len(heads) // -(-len(heads) // fitting))
    console.print(Text(f"methods of inference on {printable(table.suite)}"))
    for start in range(0, len(heads), size):
        beside = slice(start, start + size)
        _print_beside(console, heads[beside], [(label, cells[beside]) for label, cells in lines])


def _print_table(console: Console, heads: Sequence[str], lines: Lines, labels: int) -> None:
    """Prints lines under heads: as many columns beside each other as there is room for."""
    fitting = max(1, (console.width - labels) // CELL_WIDTH)
    for start in range(0, len(heads), fitting):
        part = slice(start, start + fitting)
        _print_beside(console, heads[part], [(label, cells[part]) for label, cells in lines])


def _print_beside(console: Console, heads: Sequence[str], lines: Lines) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(Text(printable(head)), justify="right", no_wrap=True)
    for label, cells in lines:
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in (label, *cells)))
    console.print(table)
