r"""What supervised finetuning learns of a row: the form of each response, its tokens, and what is left out.

Files are hand-made, and the tokenizer is the byte-level one; the last test is over real rows, with the graders that a
run has. A run that learns them: tests/controller/test_finetune.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.grading import GRADERS, Gold
from carerl.grading.pool import GraderPool
from carerl.tasks import BENCHMARKS, TextConfig, TextTask
from carerl.tasks.base import VALIDATION
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.rows.questions import Question
from carerl.tasks.taught import response
from carerl.types import Outcome, Sample
from tests.tasks.shared_data import data_dir

OPTIONS = (("A", "tin"), ("B", "gold"))
ROWS: list[dict[str, Any]] = [
    {"id": "sum", "question": "1+1?", "answer": "2", "solution": r"It is \boxed{2}."},
    {"id": "wrong", "question": "1+2?", "answer": "3", "solution": r"It is \boxed{4}."},
    {"id": "long", "question": "1+3?", "answer": "4", "solution": "so " * 40 + r"\boxed{4}"},
    {"id": "bare", "question": "1+4?", "answer": "5", "solution": "Count on from 4."},
]


def row(grader: str, gold: Gold, solution: str = "") -> Question:
    return Question("q", "?", gold, grader, solution=solution)


@pytest.mark.parametrize(
    ("question", "solution", "decision"),
    [
        (row("math", Gold(("3",)), r"So $x=\boxed{3}$."), r"So $x=\boxed{3}$.", r"\boxed{3}"),
        (row("math", Gold(("3",)), "So x is 3."), "So x is 3.\n\\boxed{3}", r"\boxed{3}"),
        (row("gsm8k", Gold(("72",)), "48/2 = <<48/2=24>>24\n24+48=<<24+48=72>>72\n#### 72"),
         "48/2 = 24\n24+48=72\nThe answer is \\boxed{72}.", r"\boxed{72}"),
        (row("gsm8k", Gold(("1200",)), "#### 1,200"), "\nThe answer is \\boxed{1,200}.", r"\boxed{1200}"),
        (row("choice", Gold(("B",), OPTIONS), "It shines."), "It shines.\n\\boxed{B}", r"\boxed{B}"),
        (row("choice", Gold(("B",), OPTIONS)), "", r"\boxed{B}"),
        (row("countdown", Gold((), (), (1, 2), 3), "1 + 2"), "<answer>1 + 2</answer>", "<answer>1 + 2</answer>"),
        (row("countdown", Gold((), (), (1, 2), 3)), "", ""),
        (row("selfaware", Gold(("Paris", "paris"))), "", "Paris"),
        (row("selfaware", Gold((), answerable=False)), "", "The answer is unknown."),
    ],
)  # fmt: skip
def test_the_form_of_a_response(question: Question, solution: str, decision: str) -> None:
    assert response(question, "solution") == solution
    assert response(question, "decision") == decision
    for text in filter(None, (solution, decision)):
        verdict = GRADERS[question.grader].grade(text, question.gold, False)
        assert verdict.outcome is (Outcome.CORRECT if question.gold.answerable else Outcome.ABSTAINED)


def make_task(folder: Path, rows: list[dict[str, Any]] = ROWS, seed: int = 1, **settings: Any) -> TextTask:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = TextTask(TextConfig(train=str(folder / "rows.jsonl"), **settings), seed)
    task.attach(make_byte_tokenizer())
    return task


def test_a_response_stands_behind_the_prompt_of_rl_and_ends_a_turn(tmp_path: Path) -> None:
    task, tokenizer = make_task(tmp_path), make_byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<turn>\n{% endfor %}[assistant]"
    )
    task.attach(tokenizer)
    before = {example.id: example.prompt_ids for example in task.train_examples(0, 8)}
    with GraderPool() as pool:
        task.teach(100, pool)
    seen = set()
    for example in task.train_examples(0, 8):
        assert before.get(example.id, example.prompt_ids) == example.prompt_ids
        *said, end = task.target(example)
        assert tokenizer.decode([end]) == "<turn>" and end in task.stop_ids, "and not the end of a text"
        seen.add((example.gold, tokenizer.decode(said)))
        assert task.grade(example, task.target(example), False)[0] is Outcome.CORRECT
    assert seen == {("2", r"It is \boxed{2}."), ("5", "Count on from 4.\n\\boxed{5}")}


def test_what_cannot_be_learned_is_left_out_and_counted(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    with pytest.raises(RuntimeError, match="teach"):
        task.target(task.train_examples(0, 1)[0])
    with GraderPool() as pool:
        found = task.teach(100, pool)
        assert (found.questions, sorted(found.targets)) == (4, ["bare", "sum"])
        assert (found.without, found.wrong, found.too_long) == ((), ("wrong",), (("long", 3 * 40 + 9 + 1),))
        assert task.teach(100, pool) is found, "grades once"
        assert sorted(task.teach(130, pool).targets) == ["bare", "long", "sum"], "another room"
        first = make_task(tmp_path)
        cut, whole = first.teach(5, pool, cut=True).targets, make_task(tmp_path).teach(200, pool).targets
        assert cut == {name: ids[:5] for name, ids in whole.items()} and "long" in cut and "wrong" not in cut
    assert {example.id for example in task.train_examples(0, 6)} == {
        f"train/{epoch}/{name}" for epoch in (0, 1) for name in ("bare", "long", "sum")
    }


def test_a_question_that_is_left_out_does_not_change_the_order_of_the_others(tmp_path: Path) -> None:
    """The same order as a run of RL has, epoch by epoch; with nothing left out the same position too."""
    rows = [{**row, "solution": rf"\boxed{{{9 if k in (3, 8) else k + 1}}}"} for k, row in enumerate(numbered(12))]
    rl, task, whole = make_task(tmp_path, rows), make_task(tmp_path, rows), make_task(tmp_path, rows, teach="decision")
    with GraderPool() as pool:
        assert task.teach(100, pool).wrong == ("q3",), "the ninth answer is 9"
        whole.teach(100, pool)
    order = [example.id for example in rl.train_examples(0, 36)]
    left = [name for name in order if not name.endswith("/q3")]
    assert [example.id for example in task.train_examples(0, 33)] == left and len(left) == 33
    assert [example.id for example in task.train_examples(9, 5)] == left[9:14], "across the end of an epoch"
    assert [example.id for example in whole.train_examples(0, 36)] == order


def test_rows_without_a_solution_are_told(tmp_path: Path) -> None:
    rows = [*ROWS, {"id": "none", "question": "1+5?", "answer": "6"}]
    with GraderPool() as pool:
        assert make_task(tmp_path, rows).teach(100, pool).without == ("none",)
        assert make_task(tmp_path, rows, teach="decision").teach(100, pool).without == ()


def numbered(n: int) -> list[dict[str, Any]]:
    return [{"id": f"q{k}", "question": f"{k} + 1?", "answer": str(k + 1)} for k in range(n)]


def trained(task: TextTask, n: int) -> set[str]:
    return {example.id.split("/")[2] for example in task.train_examples(0, n)}


def test_few_training_questions_are_the_same_for_every_seed_and_never_validation(tmp_path: Path) -> None:
    def drawn(few: int, held: int = 5, seed: int = 1) -> set[str]:
        task = make_task(tmp_path, numbered(40), seed, train_questions=few, validation_questions=held)
        (suite,) = task.suites()
        chosen = trained(task, few or 40 - held)
        assert suite.name == VALIDATION and not chosen & {example.id for example in suite.examples}
        assert trained(task, 3 * len(chosen)) == chosen, "epoch after epoch"
        first = [f"q{k}" for k in range(40) if f"q{k}" not in {example.id for example in suite.examples}]
        assert few in (0, 35) or chosen != set(first[:few]), "drawn, and not the file's first"
        return chosen

    assert len(drawn(12)) == 12 and drawn(12) == drawn(12, seed=2)
    assert drawn(6) < drawn(12) < drawn(35) == drawn(0), "a larger number adds to a smaller one"
    with pytest.raises(ValueError, match=r"task\.train_questions = 36: .* has 35 to train on"):
        drawn(36)


def test_a_question_with_options_is_known(tmp_path: Path) -> None:
    assert not make_task(tmp_path).has_options()
    mixed = [*ROWS, {"id": "c", "question": "Which?", "choices": ["tin", "gold"], "answer": "B"}]
    assert make_task(tmp_path, mixed).has_options()


@pytest.mark.parametrize(
    ("name", "teach", "wrong"),
    [
        # their golds, A, are the letters of options, and the grader reads no option out of \text{(A)}
        ("math_train", "solution", ["math-train-05341", "math-train-05343"]),
        ("gsm8k_train", "solution", []), ("gsm8k_train", "decision", []), ("countdown_train", "solution", []),
        ("commonsenseqa_train", "decision", []), ("openbookqa_train", "decision", []),
    ],
)  # fmt: skip
def test_real_rows_teach_what_their_graders_find_correct(name: str, teach: str, wrong: list[str]) -> None:
    """All but two of 7,500 in MATH, and all of the others."""
    questions = BENCHMARKS[name].load(data_dir(f"{name}.jsonl"))
    texts = {question.id: response(question, teach) for question in questions}
    assert all(texts.values()) and not any("<<" in text or "####" in text for text in texts.values())
    graded = {q.id: GRADERS[q.grader].grade(texts[q.id], q.gold, False).outcome for q in questions}
    assert [question_id for question_id, outcome in graded.items() if outcome is not Outcome.CORRECT] == wrong


def test_a_taught_decision_is_found_as_one(tmp_path: Path) -> None:
    """What is learned is what a run of RL trains: the token of the label, in the form that the prompt asks for."""
    rows = [{"id": "c", "question": "Which shines?", "choices": ["tin", "gold"], "answer": "B"}]
    task = make_task(tmp_path, rows, teach="decision")
    with GraderPool() as pool:
        task.teach(50, pool)
    (example,) = task.train_examples(0, 1)
    ids = task.target(example)
    outcome, answer = task.grade(example, ids, False)
    decision = task.decision(example, Sample(example.id, ids, (0.0,) * len(ids), False, (0, 0), outcome, answer))
    assert decision is not None and decision.chosen in decision.right
    assert decision.token_ids == task.options(example)[0]
    assert task.options(example)[1] == ("B",)
