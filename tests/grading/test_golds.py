r"""Gold answers that are whole solutions, carry a mark, or are none; and every gold of the benchmarks as it is.

Not covered: the messages of the files that they stand in (``tests/commands/test_grade.py``,
``tests/tasks/benchmarks/test_benchmarks.py``).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carerl.grading import equivalent, gold_answer
from carerl.tasks.rows.questions import parse_question

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("gold", "value"),
    [
        ("1+1=<<1+1=2>>2\n#### 2", "2"),
        ("The cost is 80,000\n#### 70,000", "70,000"),
        ("#### 2", "2"),
        ("####2\n", "2"),
        ("So she has 5.\nShe then eats 2.\n#### 3", "3"),
        (r"The answer is \boxed{7}.", "7"),
        (r"We have $x=3$, so the answer is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        ("work " * 200 + r"\boxed{5}", "5"),
        ("<answer>5</answer>", "5"),
        ('"2"', "2"),
        ("'2'", "2"),
        ("“2”", "2"),
        (r"\text{Monday}", r"\text{Monday}"),
        ("9" * 500, "9" * 500),
        (" 5 ", "5"),
        ("\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}"),
        (r"\text{all integers that leave a remainder of one}", r"\text{all integers that leave a remainder of one}"),
    ],
)
def test_the_value_that_a_gold_answer_states(gold: str, value: str) -> None:
    assert gold_answer(gold) == value


@pytest.mark.parametrize("gold", ["2 (two)", "two (2)", '"2"', "**2**", "The answer is 2.", "Answer: 2", "A: #### 2"])
def test_a_response_equals_the_stated_value(gold: str) -> None:
    assert equivalent("2", gold_answer(gold))
    assert not equivalent("3", gold_answer(gold))


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("9" * 501, "has 501 characters, but an answer has at most 500"),
        ("x+" * 300 + "1", "has 601 characters"),
        ("long " * 300 + "\n#### " + "5" * 501, "has 501 characters"),
        (r"\boxed{" + "1" * 600 + "}", "has a box that is empty, not closed, or of more than 500 characters"),
        (r"so \boxed{}", "has a box that is empty"),
        ("####", "holds no value"),
        ("$$", "holds no value"),
        ("We multiply both of the sides by three and then divide the whole by four", "without a mark of its answer"),
        ("First we add two and two.\nThen we take the result of it and halve it.", "without a mark of its answer"),
    ],
)
def test_a_gold_answer_that_no_response_could_mean_is_refused(gold: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        gold_answer(gold)


def test_answers_in_words_are_left_to_their_graders() -> None:
    text = '"It is said that nobody knows", ' * 20
    assert gold_answer(text, "selfaware") == text


def test_questions_have_the_value_of_their_solution() -> None:
    row = {"question": "?", "answer": "3+4=<<3+4=7>>7 apples\n#### 7"}
    assert parse_question(row, "f:1").gold.accepted == ("7",)
    with pytest.raises(ValueError, match="f:1: 'answer' has 600 characters"):
        parse_question({"question": "?", "answer": "7" * 600}, "f:1")


@pytest.mark.parametrize("name", ["math_train", "math500", "gsm8k_test", "gsm8k_train", "aime24", "aime25", "amc23"])
def test_the_golds_of_the_benchmarks_are_what_they_are_and_what_their_solutions_mark(name: str) -> None:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{name} is not at hand")
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    assert [row["answer"] for row in rows if gold_answer(str(row["answer"])) != str(row["answer"])] == []
    if name.startswith("gsm8k"):
        assert [row["id"] for row in rows if not equivalent(gold_answer(row["solution"]), row["answer"])] == []
