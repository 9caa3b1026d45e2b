"""Grading of tiny responses, by cases and against the corpus' own rows."""

from __future__ import annotations

import pytest

from carerl.tasks.tiny import TinyConfig, TinyTask
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.grading import answer_position, grade
from carerl.types import Example, Outcome


@pytest.mark.parametrize(
    ("response", "truncated", "outcome", "answer"),
    [
        ("C 3 7 4 A 4 <eos>", False, Outcome.CORRECT, "4"),
        ("D 3 7 4 A 5 <eos>", False, Outcome.WRONG, "5"),
        ("A 4 <eos>", False, Outcome.CORRECT, "4"),  # the steps are not graded
        ("C 3 9 9 A 4 <eos>", False, Outcome.CORRECT, "4"),
        ("D 3 7 4 A ? <eos>", False, Outcome.ABSTAINED, "?"),
        ("C 3 7 4 A 4", True, Outcome.CORRECT, "4"),  # the limit fell right behind the answer
        ("C 3 7 4 A", True, Outcome.TRUNCATED, None),
        ("C 3 7 4 4", True, Outcome.TRUNCATED, None),
        ("C 3 7 4 <eos>", False, Outcome.UNPARSED, None),
        ("C 3 7 4 A <eos>", False, Outcome.UNPARSED, None),
        ("A a <eos>", False, Outcome.UNPARSED, None),  # not a digit
        ("A +4 <eos>", False, Outcome.UNPARSED, None),
        ("A 4 5 <eos>", False, Outcome.CORRECT, "4"),  # what follows the answer is not looked at
        ("A 4 +2 +2", True, Outcome.CORRECT, "4"),
        ("A 5 A 4 <eos>", False, Outcome.WRONG, "5"),  # the first answer counts
        ("A a A 4 <eos>", False, Outcome.UNPARSED, None),
        ("<eos> A 4", False, Outcome.UNPARSED, None),  # what follows the end is not part of it
        ("", False, Outcome.UNPARSED, None),
        ("", True, Outcome.TRUNCATED, None),
    ],
)
def test_cases(response: str, truncated: bool, outcome: Outcome, answer: str | None) -> None:
    assert grade("4", tk.encode(response), truncated) == (outcome, answer)


def test_abstaining_is_never_right_or_wrong() -> None:
    assert grade("?", tk.encode("A ? <eos>"), False) == (Outcome.ABSTAINED, "?")
    assert grade("?", tk.encode("A 4 <eos>"), False) == (Outcome.WRONG, "4")


def test_answer_position_points_at_the_answer_token() -> None:
    ids = tk.encode("C 3 7 4 A 4 <eos>")
    assert answer_position(ids) == 5
    assert answer_position(tk.encode("C 3")) is None


def test_pitfall_15_the_prompt_earns_no_credit() -> None:
    task = TinyTask(TinyConfig(), 0)
    example = Example("x", tk.encode("Q 3 +4 A 4 ="), "4")  # the prompt itself holds "A 4"
    assert task.grade(example, tk.encode("C 3 7 <eos>"), False) == (Outcome.UNPARSED, None)
    assert task.grade(example, tk.encode("A 9 <eos>"), False) == (Outcome.WRONG, "9")


def test_grading_agrees_with_brute_force_on_a_thousand_questions() -> None:
    task = TinyTask(TinyConfig(), 5)
    for example in task.train_examples(0, 1000):
        words = tk.decode(example.prompt_ids).split()
        digit = int(words[1])
        for symbol in words[2:-1]:
            digit = (digit * int(symbol[1:]) if symbol[0] == "*" else digit + int(symbol[1:])) % 10
        outcomes = {answer: task.grade(example, tk.encode(f"C A {answer} <eos>"), False)[0] for answer in "0123456789"}
        assert [a for a, outcome in outcomes.items() if outcome is Outcome.CORRECT] == [str(digit)]
