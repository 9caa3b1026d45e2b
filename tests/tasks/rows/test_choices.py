"""Options and the answer that names one of them: every form that people's files have, and what is ambiguous."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.grading import Gold
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tasks.rows.graded import read_row
from carerl.tasks.rows.questions import Question, parse_question

XY = (("A", "x"), ("B", "y"))


def parse(**row: Any) -> Question:
    return parse_question({"question": "Which?", **row}, "f:1")


@pytest.mark.parametrize("name", ["choices", "options", "answer_choices"])
@pytest.mark.parametrize(
    "form",
    [
        ["x", "y"], {"A": "x", "B": "y"}, {"label": ["A", "B"], "text": ["x", "y"]}, {"text": ["x", "y"]},
        [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}],
        [{"key": "A", "text": "x"}, {"key": "B", "text": "y"}],
        [{"id": "A", "content": "x"}, {"id": "B", "content": "y"}], [{"text": "x"}, {"text": "y"}],
        [["A", "x"], ["B", "y"]], ["A) x", "B) y"], ["(A) x", "(B) y"], ["A. x", "B. y"],
    ],
)  # fmt: skip
def test_every_form_is_the_same_question_in_a_training_file_and_in_a_graded_row(name: str, form: Any) -> None:
    assert parse(**{name: form}, answer="B") == Question("f:1", "Which?", Gold(("B",), XY), "choice")
    graded = read_row(1, json.dumps({"id": "1", "gold": "B", name: form, "response": "B"}).encode(), "choice")
    assert graded.job is not None and graded.job.gold == Gold(("B",), XY)


def test_options_may_stand_in_fields_of_their_own() -> None:
    assert parse(A="x", B="y", answer="B").gold == Gold(("B",), XY)
    assert parse(A="x", answer="7").grader == "math", "one letter is no list"


@pytest.mark.parametrize(
    ("choices", "answer", "label"),
    [
        (["x", "y"], "B", "B"), (["x", "y"], "y", "B"), (["x", "y"], "b", "B"), (["x", "y"], "(B)", "B"),
        (["x", "y"], "B.", "B"), (["x", "y"], " Y ", "B"), (["x", "y"], 1, "B"), (["x", "y"], 0, "A"),
        ([3, 4], 4, "B"), (["3", "4"], "4", "B"), (["1", "2"], "1", "A"), ({"1": "x", "2": "y"}, 1, "1"),
        (["B", "A"], "B", "B"),  # a label goes before a text
        ([5.0, 2.5], 2.5, "B"), ([0, 1], 1, "B"),  # text and place agree
    ],
)  # fmt: skip
def test_an_answer_names_an_option_by_label_text_or_place(choices: Any, answer: Any, label: str) -> None:
    assert parse(choices=choices, answer=answer).gold.accepted == (label,)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"choices": ["x", "y"], "answer": "C"}, "names none of the options, or several; write a label: A, B"),
        ({"choices": ["x", "y"], "answer": 2}, "counted from 0 there are options 0 to 1"),
        ({"choices": ["x", "y"], "answer": -1}, "names none of the options"),
        ({"choices": [1, 0], "answer": 1}, "the text of option A and counted from 0 the place of option B"),
        ({"choices": ["x", "x"], "answer": "x"}, "or several"),
        ({"choices": ["x", "y"], "answer": True}, "true or false, which is no text"),
        ({"answer": False}, "true or false, which is no text"),
        ({"choices": "A: x, B: y", "answer": "B"}, "'choices' must be two or more options"),
        ({"choices": ["x"], "answer": "A"}, "'choices' must be two or more options"),
        ({"choices": ["x", None], "answer": "A"}, "'choices' must be two or more options"),
        ({"choices": ["x", ""], "answer": "A"}, "'choices' must be two or more options"),
        ({"choices": [["A", "x"], ["A", "y"]], "answer": "A"}, "'choices' must be two or more options"),
        ({"choices": {"label": ["A"], "text": ["x", "y"]}, "answer": "A"}, "'choices' must be two or more options"),
        ({"choices": [str(n) for n in range(27)], "answer": "5"}, "'choices' must be two or more options"),
        ({"choices": ["x", "y"], "options": ["x", "z"], "answer": "B"}, "stand in 'choices' and in 'options'"),
        ({"endings": ["x", "y"], "answer": "B"}, "'endings' seems to hold options, and is not read"),
        ({"option_a": "x", "option_b": "y", "answer": "B"}, "'option_a' seems to hold options"),
    ],
)  # fmt: skip
def test_what_names_no_option_is_refused(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^f:1: ") as caught:
        parse(**row)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "q?", "answer": NaN}', "NaN is no number"),
        ('{"question": "q?", "answer": -Infinity}', "-Infinity is no number"),
        ('{"question": "q?", "answer": 1e999}', "1e999 is larger than any number"),
        ('{"question": "q?", "answer": "1", "weight": NaN}', "NaN is no number"),
        ('{"question": "q?", "accepted": ["1", NaN]}', "NaN is no number"),
        ('{"question": "a?", "question": "b?", "answer": "1"}', "the key 'question' is there 2 times"),
        ('{"question": "q?", "answer": "1", "extra": {"a": 1, "a": 1}}', "the key 'a' is there 2 times"),
    ],
)
def test_a_row_that_json_does_not_have_is_refused_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "f.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n' + line + "\n")
    with pytest.raises(ValueError) as caught:
        find_benchmark(str(tmp_path / "f.jsonl")).load()
    assert str(caught.value).startswith("f.jsonl:2: ") and said in str(caught.value)


def test_the_id_0_is_an_id(tmp_path: Path) -> None:
    assert parse(id=0, answer="1").id == "0" and parse(id="", answer="1").id == "f:1"
