"""A comparison's tables as text, and what a reader must know to read them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from carerl.metrics.table import format_number, metric_line, suite_column, suite_label
from carerl.report.compare.calibration import reported_suites
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.differences import COLUMNS, Difference
from carerl.report.compare.pairs import gap_metric
from carerl.report.compare.rows import LEVEL, Cell, Row, Scaled
from carerl.report.posthoc import ESTIMATORS, MAJORITY, kind_of, measures_of

UNCHANGED = "="


def column_label(name: str, comparison: Comparison) -> str:
    label = metric_line(name).label_in("headline")
    return label.replace("maj@N", f"maj@{comparison.samples}") if comparison.samples else label


def cell_text(cell: Cell | None, digits: int, separator: str = " ") -> str:
    """Returns ``0.951 ± 0.012*`` over seeds, ``0.951 [0.931, 0.968]`` over a single run's questions, or no interval.

    >>> cell_text(Cell({1: 0.5}, 0.5, None), 3), cell_text(None, 3)
    ('0.500', '–')
    """
    if cell is None:
        return "–"
    interval = interval_text(cell, digits)
    return f"{format_number(cell.mean, digits)}{separator if interval else ''}{interval}{'*' if cell.starred else ''}"


def interval_text(cell: Cell, digits: int) -> str:
    """Returns ``± 0.012`` over seeds, ``[0.931, 0.968]`` over questions, or nothing."""
    if cell.half is not None:
        return f"± {format_number(cell.half, digits)}"
    return f"[{', '.join(format_number(end, digits) for end in cell.questions)}]" if cell.questions else ""


def difference_text(name: str, cell: Cell | None, separator: str = " ") -> str:
    """Returns ``-0.041 (≤ -0.030) ✓``: the paired difference and its bound, ≥ for a lower and ≤ for an upper one. The
    tick says that the bound, too, is on the better side of 0.

    >>> ece = Cell({}, 0.5, None, difference=-0.0414, bound=-0.0302)
    >>> difference_text("calibration/facts_ece", ece), difference_text("eval/accuracy", None)
    ('-0.041 (≤ -0.030) ✓', '–')
    """
    if cell is None or cell.difference is None or cell.bound is None:
        return "–"
    line = metric_line(name)
    difference, bound = (format_number(value, line.digits, sign=True) for value in (cell.difference, cell.bound))
    tick = " ✓" if line.better * cell.bound > 0 else ""
    return f"{difference}{separator}({'≥' if line.better > 0 else '≤'} {bound}){tick}"


@dataclass(frozen=True, slots=True)
class TextTable:
    """Holds a table whose first column names the method; every line has as many cells as ``head``. ``sources`` has, for
    each line, the labels of the rows that its numbers come from: none for figures of a paper. ``scaled`` numbers the
    lines that stand below another and belong to it, such as a row after post-hoc calibration."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    sources: Sequence[Sequence[str]]
    scaled: Collection[int] = ()


def main_tables(comparison: Comparison, separator: str = " ") -> list[TextTable]:
    """Returns the main table, a line per row. With text benchmarks it has the paper's columns, and a second table has
    the others. ``separator`` stands between a mean and its interval."""
    more = [name for name in comparison.columns if name not in comparison.paper]
    found = [("", comparison.paper)] + ([("Further metrics", more)] if more else [])
    tables = []
    for title, names in found:
        lines: list[list[str]] = []
        sources: list[list[str]] = []
        below: list[int] = []
        for row in comparison.rows:
            cells = [cell_text(row.cells.get(name), metric_line(name).digits, separator) for name in names]
            lines.append([row.label, count_text(row), *cells])
            sources.append([row.label])
            for scaled in scaled_within(row, names):
                below.append(len(lines))
                cells = [scaled_text(row, scaled, name, metric_line(name).digits, separator) for name in names]
                lines.append([scaled_name(row, scaled), str(len(scaled.fits)), *cells])
                sources.append([row.label])
        head = ["method", "n", *(column_label(name, comparison) for name in names)]
        tables.append(TextTable(title, head, lines, sources, below))
    return tables


def scaled_within(row: Row, names: Collection[str]) -> list[Scaled]:
    """Returns what post-hoc calibration made of a row, as far as it changes one of these metrics."""
    return [scaled for scaled in row.scaled if any(name in scaled.cells for name in names)]


def scaled_name(row: Row, scaled: Scaled) -> str:
    return f"{row.label} {scaled.label}"


def scaled_text(row: Row, scaled: Scaled, name: str, digits: int, separator: str = " ") -> str:
    """Returns a cell of a row after post-hoc calibration: ``=`` where that does not change the row's number."""
    cell = scaled.cells.get(name)
    same = name in row.cells or name in row.calibration
    return cell_text(cell, digits, separator) if cell else UNCHANGED if same else "–"


def calibration_tables(comparison: Comparison, separator: str = " ") -> list[TextTable]:
    """Returns a table for each benchmark and kind of confidence: every row, and under it the same after post-hoc
    calibration. Rows without an evaluation are left out."""
    made = (
        _calibration_table(comparison, suite, estimator, separator)
        for suite in reported_suites(comparison.rows)
        for estimator in ESTIMATORS
    )
    return [table for table in made if table.lines]


def _calibration_table(comparison: Comparison, suite: str, estimator: str, separator: str) -> TextTable:
    """Returns a table of the measures that a row has; without lines where none has any."""
    names = {f"calibration/{suite}/{kind_of(estimator, m.name)}": m.label for m in measures_of(estimator)}
    shown = [name for name in names if any(name in row.calibration for row in comparison.rows)]
    lines: list[list[str]] = []
    sources: list[list[str]] = []
    below: list[int] = []
    for row in comparison.rows:
        if not any(name in row.calibration for name in shown):
            continue
        lines.append([row.label, *(cell_text(row.calibration.get(name), 3, separator) for name in shown)])
        sources.append([row.label])
        for scaled in scaled_within(row, shown):
            below.append(len(lines))
            cells = [scaled_text(row, scaled, name, 3, separator) for name in shown]
            lines.append([scaled_name(row, scaled), *cells])
            sources.append([row.label])
    of = "" if estimator == MAJORITY else f", by {estimator}"
    title = f"Calibration on {suite_label(suite)}{of}"
    return TextTable(title, ["method", *(names[name] for name in shown)], lines, sources, below)


def calibration_table_notes(comparison: Comparison) -> list[str]:
    """Returns what a reader must know to read those tables."""
    lines = [
        "Of the majority answer, with its share of the votes as confidence. A question without any answer has "
        "confidence 0 and is wrong, so silence looks calibrated: read the share of answered samples beside it. ECE: 10 "
        "equal widths, biased upwards; debiased: with less of that bias. NLL is clipped to half a vote."
    ]
    if any(name.endswith("/answer_prob_ece") for row in comparison.rows for name in row.calibration):
        lines.append(
            "By answer_prob: of every sample, with the probability of the option that it names as confidence. By "
            "argmax: of every sample, were its likeliest option its decision. A sample without a decision has "
            "confidence 0. NLL is clipped to .001."
        )
    if any(row.scaled for row in comparison.rows):
        lines.append(f"{UNCHANGED}: this scaling does not change it; none changes an answer.")
    return lines


def difference_tables(comparison: Comparison, separator: str = " ") -> list[TextTable]:
    """Returns a table for each baseline that a row shares two seeds with; ``separator`` stands before a bound."""
    tables = []
    for baseline in dict.fromkeys(row.baseline for row in comparison.rows if row.baseline):
        rows = [row for row in comparison.rows if row.baseline == baseline and _bounded(row)]
        names = [name for name in comparison.columns if any(name in _bounded(row) for row in rows)]
        if not rows:
            continue
        gaps = any(row.gap_closed is not None for row in rows)
        arrows = [f"{column_label(name, comparison)} {'↑' if metric_line(name).better > 0 else '↓'}" for name in names]
        lines = []
        for row in rows:
            cells = [difference_text(name, row.cells.get(name), separator) for name in names]
            gap = "–" if row.gap_closed is None else f"{format_number(100 * row.gap_closed, 0)} %"
            lines.append([row.label, _pairs_text(row), *cells, *([gap] if gaps else [])])
        head = ["method", "pairs", *arrows, *(["ECE gap closed"] if gaps else [])]
        sources = [[row.label, baseline] for row in rows]
        tables.append(TextTable(f"Paired differences to {baseline}", head, lines, sources))
    return tables


def _bounded(row: Row) -> list[str]:
    """Returns the metrics in which the row has a bound."""
    return [name for name, cell in row.cells.items() if cell.bound is not None]


def _pairs_text(row: Row) -> str:
    """Returns the number of pairs; ``4–5`` where metrics differ in it."""
    pairs = [row.cells[name].pairs for name in _bounded(row)]
    return str(min(pairs)) if min(pairs) == max(pairs) else f"{min(pairs)}–{max(pairs)}"


def notes(comparison: Comparison) -> list[str]:
    """Returns what a reader must know to read the main table."""
    cells = [cell for row in comparison.rows for cell in row.cells.values()]
    if any(cell.half is not None for cell in cells) or not any(cell.questions for cell in cells):
        lines = ["Mean over seeds of the final evaluation ± half-width of the 95 % Student interval (n − 1)."]
    else:
        lines = ["One run a row: nothing here says how much another seed would differ."]
    if any(cell.questions and cell.half is None for cell in cells):
        lines.append(
            "[low, high]: 95 % interval over the questions of a single run's final evaluation, not over seeds."
        )
        shown = {name for row in comparison.rows for name, cell in row.cells.items() if cell.questions}
        if any(metric_line(name).biased for name in shown):
            lines.append(
                "That of an ECE is of the debiased estimate: the figure itself is biased upwards and can lie above it."
            )
    lines += comparison.notes
    if any(row.is_base for row in comparison.rows):
        lines.append("base: the models before training, each seed once; not tested.")
    if comparison.paper is not comparison.columns:
        lines += _paper_notes(comparison)
    return lines + [note for name in comparison.columns if (note := metric_line(name).note)]


def _paper_notes(comparison: Comparison) -> list[str]:
    """Says what the columns named after benchmarks are."""
    shown = set(comparison.paper)
    accuracies = [metric_line(name).label for name in comparison.paper if name.endswith("/accuracy")]
    lines = [f"{', '.join(accuracies)}: accuracy, mean over all samples."] if accuracies else []
    if "eval/selfaware/f1" in shown:
        lines.append("SelfAware F1: of recognising the unanswerable questions.")
    if "calibration/truthfulqa/ece" in shown:
        lines.append("ECE: on TruthfulQA, majority vote; those of the other benchmarks are in the second table.")
    return lines


def difference_notes(comparison: Comparison) -> list[str]:
    """Returns what a reader must know to read the tables of differences; nothing without such a table."""
    if not difference_tables(comparison):
        return []
    lines = [
        "Mean of row − baseline over the paired seeds (↑ more is better, ↓ less is better). In brackets the one-sided "
        "95 % Student bound (n − 1) on the side that speaks against the row: ≥ a lower one where more is better, "
        "≤ an upper one where less is. ✓: the bound, too, is on the better side of 0. Each bound stands by itself, "
        "not corrected for their number.",
    ]
    if any(row.gap_closed is not None for row in comparison.rows):
        lines.append(
            f"ECE gap closed: (baseline − row) / (baseline − base) in {_gap_label(comparison)}, means over the seeds "
            "that all three have. 100 %: as calibrated as before training; 0 %: as the baseline."
        )
    return lines


def _gap_label(comparison: Comparison) -> str:
    name = gap_metric(comparison.columns)
    return metric_line(name).label if name else "ECE"


def count_text(row: Row) -> str:
    """Counts seeds, not runs, as several runs may share the base of one seed; ``3 of 4`` where a sweep asked for
    more."""
    seeds = len({run.seed for run in row.runs})
    return f"{seeds} of {row.asked}" if row.asked > seeds else str(seeds)


def question_difference_text(one: Difference, metric: str, separator: str = " ") -> str:
    """Returns ``+0.042* [+0.010, +0.074]``, with the star only where the difference has one."""
    estimate = one.estimates.get(metric)
    if estimate is None:
        return "–"
    value, low, high = (format_number(x, 3, sign=True) for x in (estimate.value, estimate.low, estimate.high))
    interval = f"{separator}[{low}, {high}]" if math.isfinite(estimate.low) else ""
    return f"{value}{'*' if one.starred(metric) else ''}{interval}"


def question_difference_tables(found: Sequence[Difference], separator: str = " ") -> list[TextTable]:
    """Returns a table for each baseline and suite."""
    made = []
    for baseline, suite in dict.fromkeys((one.baseline.label, one.suite) for one in found):
        members = [one for one in found if (one.baseline.label, one.suite) == (baseline, suite)]
        lines = [
            [
                one.row.label,
                str(len(one.matched.ids)),
                *(question_difference_text(one, name, separator) for name in COLUMNS),
            ]
            for one in members
        ]
        columns = [suite_column(name) for name in COLUMNS]
        heads = [f"{column.label_in('column')} {'↑' if column.better > 0 else '↓'}" for column in columns]
        head = ["method", "questions", *heads]
        title = f"Differences to {baseline} over the questions of {suite_label(suite)}"
        made.append(TextTable(title, head, lines, [[one.row.label, baseline] for one in members]))
    return made


def question_difference_notes(found: Sequence[Difference]) -> list[str]:
    """Returns what a reader must know to read those tables."""
    if not found:
        return []
    tests = sum(len(one.p_holm) for one in found)
    lines = [
        "Row − baseline over the questions that both were asked, paired question by question (↑ more is better, ↓ less "
        "is better), with 95 % intervals: of the share of right samples (t, Bonett and Price; where only a probability "
        "of being right is known, the majority's), and of the majority's share of the votes as confidence: debiased "
        "ECE (from the intervals of both), Brier (studentised bootstrap) and AUROC (DeLong). One run each: they say "
        "nothing of other seeds.",
        f"* the difference is not 0: Holm-corrected over the {tests} tests of these tables, p < {LEVEL:g}. The "
        "intervals are not corrected.",
    ]
    for one in found:
        parts = [
            f"{count} {words}"
            for count, words in (
                (one.matched.alone, f"in {one.row.label} only"),
                (one.matched.other_alone, f"in {one.baseline.label} only"),
                (one.matched.changed, "of one id but not known to have one prompt and gold answer"),
            )
            if count
        ]
        if parts:
            lines.append(f"{suite_label(one.suite)}, {one.row.label}: unmatched questions: {', '.join(parts)}.")
    return lines
