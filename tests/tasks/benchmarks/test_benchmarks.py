r"""The data sets: rows in the shared schema and in the hub's own, what is refused, and all real rows against their
graders.

Not covered: loading from the hub (no network in tests). The rows of the hub's schemas are made here by hand after its
columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.grading import GRADERS, Gold
from carerl.grading.votes import vote
from carerl.tasks import BENCHMARKS
from carerl.tasks.benchmarks.benchmark import Benchmark
from carerl.tasks.benchmarks.multiple_choice import fixed_order
from carerl.tasks.benchmarks.table import find_benchmark, training_questions
from carerl.tasks.rows.questions import Question, parse_question
from carerl.types import Outcome
from tests.tasks.shared_data import data_dir

ABC = (("A", "bank"), ("B", "mall"), ("C", "tent"))
LISTS = {"label": ["A", "B", "C"], "text": ["bank", "mall", "tent"]}
PAIRS = [{"label": label, "text": text} for label, text in ABC]
SHARED = {"solution": None, "level": None, "subject": None, "choices": None, "answerable": None}

CASES: list[tuple[str, dict[str, Any], Gold]] = [
    ("math_train", {"id": "a", "question": "x?", "answer": r"\frac12", **SHARED}, Gold((r"\frac12",))),
    ("math_train", {"problem": "x?", "solution": r"\boxed{1}, so \boxed{2}", "level": "Level 5"}, Gold(("2",))),
    ("math_test", {"id": "a", "question": "x?", "answer": "9", **SHARED,
                   "extra": {"full_answer": "1, 9", "multi_box": "all_required"}}, Gold(("1, 9",))),
    ("math_test", {"id": "a", "question": "x?", "answer": "1", **SHARED, "extra": {"accepted_answers": ["1", "-1"]}},
     Gold(("1", "-1"))),
    ("math500", {"problem": "x?", "solution": r"\boxed{3}", "answer": "3", "unique_id": "test/1.json"}, Gold(("3",))),
    ("gsm8k", {"id": "a", "question": "x?", "answer": "1234", **SHARED, "extra": {"raw_answer": "1,234"}},
     Gold(("1234",))),
    ("gsm8k_train", {"question": "x?", "answer": "Add <<1200+34=1234>>.\n#### 1,234"}, Gold(("1234",))),
    ("selfaware", {"id": "a", "question": "x?", "answer": "Rome", **SHARED, "answerable": True,
                   "extra": {"answers": ["Rome", "Roma"]}}, Gold(("Rome", "Roma"))),
    ("selfaware", {"id": "a", "question": "x?", "answer": None, **SHARED, "answerable": False,
                   "extra": {"answers": []}}, Gold(answerable=False)),
    ("selfaware", {"question_id": 3, "question": "x?", "answer": ["Rome", "Roma"], "answerable": True, "source": "s"},
     Gold(("Rome", "Roma"))),
    ("selfaware", {"question_id": 4, "question": "x?", "answer": None, "answerable": False}, Gold(answerable=False)),
    ("truthfulqa", {"id": "a", "question": "x?", "answer": "B", **SHARED, "choices": PAIRS}, Gold(("B",), ABC)),
    ("truthfulqa_2025", {"id": "a", "question": "x?", "answer": "C", **SHARED,
                         "choices": [PAIRS[0], {"label": "B", "text": ""}, {"label": "C", "text": "mall"},
                                     {"label": "D", "text": "tent"}]}, Gold(("B",), ABC)),
    ("commonsenseqa", {"id": "a", "question": "x?", "answer": "B", **SHARED, "choices": PAIRS}, Gold(("B",), ABC)),
    ("commonsenseqa", {"id": "a", "question": "x?", "question_concept": "q", "choices": LISTS, "answerKey": "B"},
     Gold(("B",), ABC)),
    ("commonsenseqa_train", {"id": "a", "question": {"stem": "x?", "choices": PAIRS}, "answerKey": "B"},
     Gold(("B",), ABC)),
    ("openbookqa", {"id": "a", "question": "x?", "answer": "C", **SHARED, "choices": PAIRS}, Gold(("C",), ABC)),
    ("openbookqa_train", {"id": "a", "question_stem": "x?", "choices": LISTS, "answerKey": "C"}, Gold(("C",), ABC)),
    ("aime24", {"id": 60, "problem": "x?", "solution": r"\boxed{073}", "answer": "73"}, Gold(("73",))),
    ("aime25", {"id": "a", "question": "x?", "answer": "70", **SHARED}, Gold(("70",))),
    ("amc23", {"id": 0, "question": "x?", "answer": 27.0}, Gold(("27",))),
    ("countdown", {"id": "a", "question": "x?", "answer": "24", **SHARED, "extra": {"numbers": [4, 6, 1]}},
     Gold(numbers=(4, 6, 1), target=24)),
    ("countdown_train", {"nums": [4, 6, 1], "target": 24}, Gold(numbers=(4, 6, 1), target=24)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "gold"), CASES)
def test_both_schemas_of_a_data_set_are_read(name: str, row: dict[str, Any], gold: Gold) -> None:
    question = BENCHMARKS[name].parse(row, "f:1")
    assert question.gold == gold
    assert question.grader == BENCHMARKS[name].grader and "{question}" in question.template
    assert question.text == "x?" or (
        name == "countdown_train" and "[4, 6, 1]" in question.text and "24" in question.text
    )


def test_every_data_set_is_read_in_a_test() -> None:
    assert {name for name, _, _ in CASES} == set(BENCHMARKS)


def test_only_training_splits_are_trained_on() -> None:
    assert {name for name, entry in BENCHMARKS.items() if entry.trainable} == {
        "math_train", "gsm8k_train", "commonsenseqa_train", "openbookqa_train", "countdown_train"
    }  # fmt: skip
    assert "authors" in BENCHMARKS["truthfulqa"].refusal and "authors" in BENCHMARKS["truthfulqa_2025"].refusal


def test_the_hubs_order_of_truthfulqas_options_is_changed_and_the_right_one_followed() -> None:
    texts = [f"option {i}" for i in range(5)]
    positions = []
    for number in range(200):
        targets = {"choices": texts, "labels": [1, 0, 0, 0, 0]}
        question = BENCHMARKS["truthfulqa"].parse({"question": f"Number {number}?", "mc1_targets": targets}, "f:1")
        assert sorted(text for _, text in question.choices) == texts
        assert [label for label, _ in question.choices] == list("ABCDE")
        label = question.gold.accepted[0]
        assert dict(question.choices)[label] == "option 0", "upstream lists the right one first"
        positions.append("ABCDE".index(label))
    # 40 expected in each of 5 places; 5 standard deviations (5.7) around it
    assert all(12 <= positions.count(place) <= 68 for place in range(5))
    assert fixed_order("q", texts) == fixed_order("q", texts) != fixed_order("other", texts)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("math500", [1, 2], "f:7: a row must be an object, not list"),
        ("math500", {"answer": "3"}, "f:7: no text in 'question' (or 'problem')"),
        ("math500", {"question": "  ", "answer": "3"}, "f:7: no text in 'question'"),
        ("math500", {"problem": "Why?"}, "f:7: no text in 'answer'"),
        ("math500", {"problem": "Why?", "answer": " "}, "f:7: no text in 'answer'"),
        ("math500", {"problem": "Why?", "solution": "because"}, "f:7: no text in 'answer'"),
        ("selfaware", {"question": "Why?", "answerable": True}, "f:7: no text in 'answer'"),
        ("selfaware", {"question": "Why?", "answerable": "no"}, "f:7: 'answerable' must be true or false"),
        ("truthfulqa", {"question": "Why?", "answer": "A"}, "f:7: no 'choices'"),
        ("truthfulqa", {"question": "?", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 1]}}, "f:7: no text in"),
        ("commonsenseqa", {"question": "?", "choices": LISTS, "answerKey": ""}, "f:7: no text in 'answer'"),
        ("commonsenseqa", {"question": "?", "choices": LISTS, "answerKey": "D"}, "f:7: 'answer' is 'D'"),
        ("openbookqa", {"question_stem": "?", "choices": {"label": ["A"], "text": ["a", "b"]}, "answerKey": "A"},
         "f:7: 'choices' must be"),
        ("openbookqa", {"question_stem": "?", "choices": [PAIRS[0], PAIRS[0]], "answerKey": "A"},
         "f:7: 'choices' must be"),
        ("countdown", {"question": "?", "answer": "24"}, "f:7: no 'numbers'"),
        ("countdown", {"nums": [1, 2.5], "target": 3}, "f:7: 'numbers' must hold whole numbers"),
        ("countdown", {"nums": [1, 2], "target": None}, "f:7: 'target' must hold whole numbers"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_file_row_and_field(name: str, row: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        BENCHMARKS[name].parse(row, "f:7")
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------------------------------------------------- a user's file


@pytest.mark.parametrize(
    ("row", "grader", "gold"),
    [
        ({"answer": "2"}, "math", Gold(("2",))),
        ({"answer": 0.25}, "math", Gold(("0.25",))),
        ({"accepted": ["1", "-1", "1"]}, "math", Gold(("1", "-1"))),
        ({"answer": "B", "choices": ["x", "y"]}, "choice", Gold(("B",), (("A", "x"), ("B", "y")))),
        ({"answer": "y", "choices": ["x", "y"]}, "choice", Gold(("B",), (("A", "x"), ("B", "y")))),
        ({"numbers": [4, 6, 1], "target": 24}, "countdown", Gold(numbers=(4, 6, 1), target=24)),
        ({"answerable": False}, "selfaware", Gold(answerable=False)),
        ({"answerable": True, "answer": "Rome"}, "selfaware", Gold(("Rome",))),
        ({"answer": "200", "grader": "gsm8k"}, "gsm8k", Gold(("200",))),
    ],
)
def test_the_grader_follows_from_the_fields_unless_it_is_named(row: dict[str, Any], grader: str, gold: Gold) -> None:
    question = parse_question({"question": "?", **row}, "f:1")
    assert (question.grader, question.gold) == (grader, gold)


def test_a_grader_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="f:1: 'grader' is 'judge'; it must be one of math"):
        parse_question({"question": "?", "answer": "1", "grader": "judge"}, "f:1")


def load(tmp_path: Path, *lines: str) -> list[Question]:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return find_benchmark(str(path)).load()


def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    questions = load(tmp_path, '{"question": "1 + 1?", "answer": 2}', "", '{"id": "b", "problem": "?", "answer": "3"}')
    assert [(q.id, q.gold.accepted) for q in questions] == [("mine.jsonl:1", ("2",)), ("b", ("3",))]
    assert find_benchmark(str(tmp_path / "mine.jsonl")).name == "mine"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"question": "1 + 1?", "answer": 2}', "{broken"], "mine.jsonl:2: not JSON"),
        (
            ['{"id": "a", "question": "1?", "answer": 1}', '{"id": "a", "question": "2?", "answer": 2}'],
            r"mine\.jsonl:1 and mine\.jsonl:2 have the same id 'a'",
        ),
        (["", " "], "no rows"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, *lines)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        find_benchmark(str(tmp_path / "none.jsonl")).load()
    with pytest.raises(ValueError, match=r"truthfulqa_2025: the hub has no copy of it; write task\.data_dir="):
        BENCHMARKS["truthfulqa_2025"].load(str(tmp_path))
    with pytest.raises(ValueError, match="no data set 'gsm'"):
        find_benchmark("gsm")


def test_a_data_directory_is_looked_into_first(tmp_path: Path) -> None:
    (tmp_path / "gsm8k_train.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    (question,) = training_questions("gsm8k_train", str(tmp_path))
    assert question.gold == Gold(("2",))


# ----------------------------------------------------------------------------------------------------------- real rows

ROWS = {
    "math_train": 7500, "math_test": 5000, "math500": 500, "gsm8k_train": 7473, "gsm8k": 1319, "selfaware": 3369,
    "truthfulqa": 817, "truthfulqa_2025": 790, "commonsenseqa_train": 9741, "commonsenseqa": 1221,
    "openbookqa_train": 4957, "openbookqa": 500, "aime24": 30, "aime25": 30, "amc23": 40, "countdown_train": 10240,
    "countdown": 1024,
}  # fmt: skip
# The gold answer is a character that is no word (three rows), or itself says that nobody knows ("unclear").
EXCEPTIONS = {"selfaware-00092", "selfaware-00572", "selfaware-00685", "selfaware-01585"}
FORMS = {"math": r"\boxed{%s}", "gsm8k": "#### %s", "choice": r"\boxed{%s}", "selfaware": "%s"}


def gold_response(benchmark: Benchmark, directory: str) -> dict[str, str]:
    """For Countdown the rows' own equations, which are the only gold responses that do not follow from the question."""
    if benchmark.grader != "countdown":
        return {}
    rows = map(json.loads, Path(directory, benchmark.file).read_text(encoding="utf-8").splitlines())
    return {row["id"]: f"<answer>{row['solution']}</answer>" for row in rows}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_gold_answer_is_right_for_its_own_grader(name: str) -> None:
    benchmark = BENCHMARKS[name]
    directory = data_dir(benchmark.file)
    questions, responses = benchmark.load(directory), gold_response(benchmark, directory)
    failed = set()
    for question in questions:
        response = responses.get(question.id, "")
        if not question.gold.answerable:
            response = "The answer is unknown."
        elif not response:
            response = FORMS[question.grader] % question.gold.accepted[0]
        verdict = GRADERS[question.grader].grade(response, question.gold, False)
        wanted = Outcome.CORRECT if question.gold.answerable else Outcome.ABSTAINED
        if verdict.outcome is not wanted or vote(question.grader, verdict, question.gold) is None:
            failed.add(question.id)
    assert len(questions) == ROWS[name]
    assert failed <= EXCEPTIONS, sorted(failed)


def test_selfawares_unanswerable_questions_are_counted() -> None:
    questions = BENCHMARKS["selfaware"].load(data_dir("selfaware.jsonl"))
    assert sum(not question.gold.answerable for question in questions) == 1032


def test_options_of_the_shared_files_keep_their_order() -> None:
    directory = data_dir("truthfulqa.jsonl")
    rows = map(json.loads, Path(directory, "truthfulqa.jsonl").read_text(encoding="utf-8").splitlines())
    for row, question in zip(rows, BENCHMARKS["truthfulqa"].load(directory), strict=True):
        assert [text for _, text in question.choices] == [option["text"] for option in row["choices"]]
        assert question.gold.accepted == (row["answer"],)
