"""The lists over a question's samples that post-hoc calibration of decisions reads; reading them back is tested in
``tests/runs/test_questions.py``."""

from __future__ import annotations

import pytest

from carerl.calibration import brier
from carerl.grading import Gold
from carerl.tasks import text_evaluation
from carerl.tasks.scoring import with_decisions
from carerl.types import Decision, Example, Group, Outcome, Sample

IDS = {"A": 1, "B": 2, "C": 3}
COLUMNS = ("decision_probs", "decision_rights", "argmax_probs", "argmax_rights")


def sample(answer: str | None, probs: tuple[float, ...] | None, gold: str = "B") -> Sample:
    outcome = Outcome.UNPARSED if answer is None else Outcome.CORRECT if answer == gold else Outcome.WRONG
    made = Sample("q", (5, IDS.get(answer or "", 9)), (-0.1, -0.2), False, (0, 0), outcome, answer)
    if answer is not None and probs is not None:
        made.decision, made.option_probs = Decision(1, answer, IDS, (gold,)), probs
    return made


def group(name: str, *samples: Sample) -> Group:
    return Group(Example(name, (4,), "B", {"gold": Gold(("B",)), "grader": "choice"}), list(samples))


DECIDED = group(
    "one",
    sample("B", (0.1, 0.7, 0.2)),  # right, and the likeliest
    sample("A", (0.2, 0.5, 0.3)),  # wrong, and the right one was likelier
    sample("B", (0.6, 0.3, 0.1)),  # right, but a wrong one was likelier
    sample("B", None),  # right, without a decision
)
SILENT = group("two", *[sample(None, None)] * 3, sample("C", None))


def test_by_hand() -> None:
    rows = text_evaluation.evaluate({"choice": [DECIDED, SILENT]}, "choice", 0).rows
    assert {name: rows[0][name] for name in COLUMNS} == {
        "decision_probs": [0.7, 0.2, 0.3, None],
        "decision_rights": [1, 0, 1, 1],
        "argmax_probs": [0.7, 0.5, 0.6, None],
        "argmax_rights": [1, 1, 0, 1],
    }
    assert rows[1]["decision_probs"] == rows[1]["argmax_probs"] == [None] * 4, "of a suite every question has them"
    assert rows[1]["decision_rights"] == rows[1]["argmax_rights"] == [0] * 4


def test_a_suite_without_decisions_has_no_such_column() -> None:
    rows = text_evaluation.evaluate({"choice": [DECIDED], "free": [SILENT]}, "choice", 0).rows
    assert set(COLUMNS) <= rows[0].keys() and not set(COLUMNS) & rows[1].keys()


def test_the_lists_give_the_metric_of_the_evaluation() -> None:
    scored = text_evaluation.evaluate({"choice": [DECIDED, SILENT]}, "choice", 0)
    probs, rights = ([x or 0.0 for row in scored.rows for x in row[name]] for name in COLUMNS[:2])
    assert brier(probs, rights) == pytest.approx(scored.metrics["calibration/choice/answer_prob_brier"])


def test_known_probabilities_of_being_right_are_kept_as_they_are() -> None:
    known: list[list[float | None]] = [[0.95, 0.05 / 9, 0.95, None]]
    (row,) = with_decisions([{"suite": "q3"}], [DECIDED], known, known[::-1])
    assert row["decision_rights"] == row["argmax_rights"] == known[0] and row["suite"] == "q3"
