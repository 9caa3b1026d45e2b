"""Prints the results of an evaluation of a model, a column for each benchmark."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carerl.calibration import Estimate
from carerl.metrics.table import format_number, metric_line, shown_in, suite_label
from carerl.report.temperature import MEASURES, SCALED, no_validation, rescale, scaled_label
from carerl.runs.directory import RunDirectory
from carerl.runs.find import flatten
from carerl.runs.questions import intervals, reported
from carerl.runs.tables import read_questions
from carerl.tasks.base import VALIDATION
from carerl.text.printable import printable

_OF_SUITE = re.compile(r"(?:eval|calibration)/([^/]+)/([^/]+)")
AFTER = " + temperature"  # ends the label of a line of what temperature scaling makes of the one without it
LABEL_WIDTH, CELL_WIDTH = 30, 24
Lines = list[tuple[str, list[str]]]


def evaluation_rows(record: Mapping[str, Any]) -> tuple[list[str], Lines]:
    """Returns benchmarks, and lines of (label, a cell each). If no metric belongs to a benchmark, as in the tiny world,
    there is one column without a name."""
    metrics, bounds = record["metrics"], record.get("intervals") or {}
    suites, names = _suites(metrics)
    cells = {place: cell_text(name, metrics[name], bounds.get(name)) for place, name in names.items()}
    if not suites:
        return [""], [(metric_line(n).label, [cell_text(n, v, bounds.get(n))]) for n, v in metrics.items()]
    for suite in suites:  # the calibration of no answers is no calibration
        if metrics.get(f"eval/{suite}/answered") == 0:
            cells = {(s, k): text for (s, k), text in cells.items() if s != suite or names[s, k].startswith("eval/")}
    shown = [m for m in shown_in("evaluation") if any((suite, m.kind) in cells for suite in suites)]
    lines = [(m.label_in("evaluation"), [cells.get((s, m.kind), "–") for s in suites]) for m in shown]
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


def _suites(metrics: Mapping[str, float]) -> tuple[list[str], dict[tuple[str, str], str]]:
    """Returns the suites in their order, and the name of each metric by (suite, kind). The tiny world's metrics have
    names of their own, so its validation suite alone makes no column."""
    names = {(match[1], match[2]): name for name in metrics if (match := _OF_SUITE.fullmatch(name))}
    suites = list(dict.fromkeys(suite for suite, _ in names))
    return ([] if suites == [VALIDATION] else suites), names


def scaled_rows(
    record: Mapping[str, Any], questions: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> tuple[Lines, str]:
    """Returns lines with each benchmark's calibration after temperature scaling, to stand under those of
    :func:`evaluation_rows`, and the temperature in words. Without a temperature: no lines, and the reason.
    ``settings``: the run's, nested."""
    shown = reported(questions, record.get("reliability") or {})
    shown = {suite: found for suite, found in shown.items() if found.answered != 0}
    if not questions:
        return [], f"{SCALED}: absent: no table of questions beside the evaluation"
    try:
        found = rescale(questions, shown)
    except ValueError as error:
        return [], f"{SCALED}: absent: {error}"
    if found is None:
        return [], f"{SCALED}: absent: {no_validation(flatten(settings))}"
    suites, _ = _suites(record["metrics"])
    lines = []
    for measure in (measure for measure in MEASURES if measure.scaled):
        texts = {suite: _estimate_text(estimates[measure.name]) for suite, estimates in found.suites.items()}
        if suites:
            lines.append((f"{measure.label}{AFTER}", [texts.get(suite, "–") for suite in suites]))
        else:
            lines += [(f"{suite_label(s)}, {measure.label}{AFTER}", [text]) for s, text in texts.items()]
    words = scaled_label([(found.temperature, found.fitted_on)])
    return lines, f"{words}; no answer and no order changes. A question without an answer keeps confidence 0."


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
    suites, lines = evaluation_rows(record)
    scaled, words = scaled_rows(record, questions, settings)
    lines += scaled
    console = Console(file=stream, width=None if stream.isatty() else LABEL_WIDTH + CELL_WIDTH * max(2, len(suites)))
    fitting = max(1, (console.width - LABEL_WIDTH) // CELL_WIDTH)
    for start in range(0, len(suites), fitting):  # as many benchmarks beside each other as there is room for
        part = slice(start, start + fitting)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for suite in suites[part]:
            table.add_column(Text(printable(suite)), justify="right", no_wrap=True)
        for label, cells in lines:
            table.add_row(*(Text(printable(cell)) for cell in (label, *cells[part])))
        console.print(table)
    if record.get("intervals"):
        console.print(Text(interval_words(record), style="bright_black"))
    console.print(Text(printable(words), style="bright_black"))
    console.print(Text(f"run directory: {directory.path}", style="bright_black"), soft_wrap=True)
