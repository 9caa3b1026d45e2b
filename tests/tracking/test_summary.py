"""The end table."""

from __future__ import annotations

import io

from carerl.metrics.table import format_number
from carerl.tracking.summary import print_summary, summary_text

BASE = {"eval/accuracy": 0.315, "calibration/facts_ece": 0.0306, "eval/entropy": 0.191, "eval/unknown": 1.0}
FINAL = {"eval/accuracy": 0.9514, "calibration/facts_ece": 0.0458, "eval/kl_per_sequence": 4.6}


def test_plain_table_to_the_letter() -> None:
    assert summary_text(BASE, FINAL, title="care · seed 1", seconds=72.4, run_dir="runs/x") == (
        "care · seed 1\n"
        "                             base  after  change\n"
        "accuracy                    0.315  0.951  +0.636\n"
        "FACTS ECE                   0.031  0.046  +0.015\n"
        "entropy (nats/token)        0.191      –       –\n"
        "KL to base (nats/sequence)      –   4.60       –\n"
        "finished in 1:12\n"
        "run directory: runs/x\n"
    )


def test_a_run_s_table_has_what_displays_have_no_room_for() -> None:
    metrics = {"eval/accuracy_k4": 0.2, "calibration/facts_ece_floor": 0.026, "calibration/question_ece": 0.064}
    assert summary_text(metrics, metrics).splitlines()[1:] == [
        "accuracy, 4 steps         0.200  0.200  +0.000",
        "FACTS ECE, perfect model  0.026  0.026  +0.000",
        "question ECE              0.064  0.064  +0.000",
    ]


def test_no_escape_codes_off_a_terminal() -> None:
    out = io.StringIO()
    print_summary(BASE, FINAL, title="x", file=out)
    assert "\x1b" not in out.getvalue() and "+0.636" in out.getvalue()


def test_a_terminal_gets_the_same_numbers() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    print_summary(BASE, FINAL, title="care", file=out)
    for shown in ("care", "accuracy", "0.315", "0.951", "+0.636", "+0.015", "4.60"):
        assert shown in out.getvalue()


def test_no_minus_zero() -> None:
    assert format_number(-0.0001) == "0.000"
    assert format_number(-0.0001, sign=True) in ("0.000", "+0.000")
    assert format_number(-1234.5, 1) == "-1,234.5"
