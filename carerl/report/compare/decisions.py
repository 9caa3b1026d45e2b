"""The decisions of every row, benchmark by benchmark, in the domain that was trained on and out of it, in one table."""

from __future__ import annotations

from carerl.metrics.table import metric_line, shown_in, suite_label
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.tables import TextTable, cell_text, scaled_name, scaled_text, scaled_within
from carerl.runs.find import domains

SCALED = "calibration/{suite}/answer_prob_ece_count"  # what post-hoc calibration changes in this table
DECIDES = "argmax_accuracy"  # a benchmark has decisions where this was measured


def decision_table(comparison: Comparison, separator: str = " ") -> TextTable | None:
    """Returns a table with a line for each benchmark and row, the benchmarks one after the other, and under it one for
    each scaler of its p(decision); None if no benchmark has decisions."""
    names = [name.split("/") for name in comparison.columns]
    suites = dict.fromkeys(parts[1] for parts in names if len(parts) == 3 and parts[2] == DECIDES)
    lines: list[list[str]] = []
    sources: list[list[str]] = []
    below: list[int] = []
    columns = [
        metric
        for metric in shown_in("decisions")
        if any(metric.name.replace("{suite}", suite) in comparison.columns for suite in suites)
    ]
    for suite in suites:
        wanted = [column.name.replace("{suite}", suite) for column in columns]
        for row in comparison.rows:
            if not any(name in row.cells for name in wanted):
                continue
            domain = domains(row.runs[0].config, [suite]).get(suite, "–")
            place = [suite_label(suite), domain]
            cells = [cell_text(row.cells.get(name), metric_line(name).digits, separator) for name in wanted]
            lines.append([row.label, *place, *cells])
            sources.append([row.label])
            for scaled in scaled_within(row, [SCALED.format(suite=suite)]):
                below.append(len(lines))
                cells = [scaled_text(row, scaled, name, metric_line(name).digits, separator) for name in wanted]
                lines.append([scaled_name(row, scaled), *place, *cells])
                sources.append([row.label])
    heads = [column.label_in("decisions") for column in columns]
    head = ["method", "benchmark", "trained on", *heads]
    return TextTable("Decisions", head, lines, sources, below) if lines else None


NOTES = [
    "In domain: of the data set that the run was trained on. A dash: the settings do not say what that was.",
    "Accuracy: of the decisions as they were sampled. Arg-max accuracy: with the likeliest option in the decision's "
    "place, after the same trace; a calibrated decision that is sampled is right less often than that. Samples without "
    "a decision count as graded in both.",
    "ECE of p(decision): bins of equal count, over samples; confidence is the probability of the named option among "
    "the options, 0 without a decision. Flips, where measured: decisions that change after the trace of a question "
    "with another decision.",
]
