"""The table of an evaluation: which metrics, in which order, with their intervals."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from carerl.report.evaluation_table import evaluation_rows, print_evaluation
from carerl.runs.directory import RunDirectory

RECORD = {
    "step": 0,
    "metrics": {
        "eval/accuracy": 0.5,
        "eval/gsm8k/accuracy": 0.5,
        "eval/gsm8k/truncated": 0.125,
        "calibration/gsm8k/ece": 0.2,
        "calibration/gsm8k/mce": 0.9,
        "eval/selfaware/f1": 0.75,
        "eval/selfaware/accuracy": 0.25,
    },
    "intervals": {"eval/gsm8k/accuracy": [0.4, 0.6]},
}


def test_a_column_for_each_benchmark_and_a_dash_for_what_it_does_not_have() -> None:
    suites, lines = evaluation_rows(RECORD)
    assert suites == ["GSM8K", "SelfAware"]
    assert lines == [
        ("accuracy", ["0.500 [0.400, 0.600]", "0.250"]),
        ("F1 of the unanswerable", ["–", "0.750"]),
        ("cut off before one", ["0.125", "–"]),
        ("ECE of votes", ["0.200", "–"]),
    ]


def test_two_names_that_end_alike_are_two_figures() -> None:
    apart = {"eval/gsm8k/accuracy": 0.5, "eval/gsm8k/argmax_accuracy": 0.75, "calibration/gsm8k/argmax_accuracy": 0.125}
    for metrics in (apart, dict(reversed(apart.items()))):
        lines = dict(evaluation_rows({"metrics": metrics})[1])
        assert lines == {"accuracy": ["0.500"], "accuracy of the likeliest option": ["0.750"]}


def test_a_task_without_benchmarks_has_one_column() -> None:
    suites, lines = evaluation_rows({"metrics": {"eval/accuracy": 0.5, "calibration/facts_ece": 0.1}})
    assert suites == [""] and lines == [("accuracy", ["0.500"]), ("FACTS ECE", ["0.100"])]


def test_without_answers_there_is_no_calibration_to_show() -> None:
    silent = {"eval/gsm8k/answered": 0.0, "calibration/gsm8k/ece": 0.0, "eval/gsm8k/truncated": 1.0}
    _, lines = evaluation_rows({"metrics": silent})
    assert lines == [("answered", ["0.000"]), ("cut off before one", ["1.000"])]


def test_on_a_narrow_terminal_benchmarks_stand_below_each_other(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    names = ("math500", "gsm8k", "selfaware", "truthfulqa")
    record = {
        "step": 0,
        "metrics": {f"eval/{name}/accuracy": 0.5 for name in names},
        "intervals": {f"eval/{name}/accuracy": [0.4, 0.6] for name in names},
    }
    out = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        print_evaluation(record, RunDirectory(tmp_path), out)
    text = out.getvalue()
    assert text.count("0.500 [0.400, 0.600]") == 4 and text.count("accuracy") == 2 and "…" not in text


def test_the_printed_table_says_where_the_rest_is(tmp_path: Path) -> None:
    out = io.StringIO()
    print_evaluation(RECORD, RunDirectory(tmp_path), out)
    text = out.getvalue()
    assert "0.500 [0.400, 0.600]" in text and "95 % intervals over questions" in text
    assert text.rstrip().endswith(f"run directory: {tmp_path}") and "0.900" not in text
