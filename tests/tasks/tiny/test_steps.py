"""Steps of tiny responses: where they end, and which are right, by cases and against the corpus' own chains."""

from __future__ import annotations

import pickle
import random

import pytest

from carerl.tasks.base import ChecksSteps
from carerl.tasks.tiny import TinyConfig, TinyTask
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.steps import TinySplitter
from carerl.types import Example, Outcome

EXAMPLE = Example("q", tk.encode("Q 3 +4 *2 +9 ="), "3")  # 7, 4, 3
T, F, N = True, False, None


@pytest.fixture(scope="module")
def task() -> TinyTask:
    return TinyTask(TinyConfig(evaluation_questions=5, evaluation_facts=5, evaluation_unknown=5), 3)


@pytest.mark.parametrize(
    ("response", "steps", "labels"),
    [
        ("C 3 7 4 3 A 3 <eos>", ["C 3 7", "4", "3", "A 3 <eos>"], [T, T, T, T]),
        ("D 3 7 4 3 A 3 <eos>", ["D 3 7", "4", "3", "A 3 <eos>"], [T, T, T, T]),  # the sloppy one may be lucky
        ("D 3 7 9 8 A 8 <eos>", ["D 3 7", "9", "8", "A 8 <eos>"], [T, F, N, N]),
        ("D 3 7 9 3 A 3 <eos>", ["D 3 7", "9", "3", "A 3 <eos>"], [T, F, N, N]),  # a right end does not mend it
        ("C 4 7 4 3 A 3 <eos>", ["C 4 7", "4", "3", "A 3 <eos>"], [F, N, N, N]),  # not the start
        ("W 3 7 4 3 A 3 <eos>", ["W 3 7", "4", "3", "A 3 <eos>"], [F, N, N, N]),  # not a method
        ("C 3 7 4 3 A ? <eos>", ["C 3 7", "4", "3", "A ? <eos>"], [T, T, T, F]),
        ("C 3 7 4 3 A 4 <eos>", ["C 3 7", "4", "3", "A 4 <eos>"], [T, T, T, F]),
        ("C 3 7 4 3 A 3 5 <eos>", ["C 3 7", "4", "3", "A 3 5 <eos>"], [T, T, T, F]),  # it did not end
        ("C 3 7 4 3 A 3", ["C 3 7", "4", "3", "A 3"], [T, T, T, N]),  # the limit cut it
        ("C 3 7 4 3 A", ["C 3 7", "4", "3", "A"], [T, T, T, N]),
        ("C 3 7 4 3", ["C 3 7", "4", "3"], [T, T, T]),  # the limit fell between steps
        ("C 3 7 4 3 3 A 3 <eos>", ["C 3 7", "4", "3", "3", "A 3 <eos>"], [T, T, T, F, N]),  # a result too many
        ("C 3 7 4 A 3 <eos>", ["C 3 7", "4", "A 3 <eos>"], [T, T, F]),  # a guess
        ("C 3 7 4 3 <eos>", ["C 3 7", "4", "3", "<eos>"], [T, T, T, F]),
        ("C 3 7 4 3 A 3 <eos> <eos>", ["C 3 7", "4", "3", "A 3 <eos>", "<eos>"], [T, T, T, T, F]),
        ("A 3 <eos>", ["A 3 <eos>"], [F]),
        ("C 3 A 3 <eos>", ["C 3 A 3 <eos>"], [F]),
        ("C 3", ["C 3"], [N]),
        ("C <eos>", ["C <eos>"], [F]),
        ("", [], []),
    ],
)
def test_cases(task: TinyTask, response: str, steps: list[str], labels: list[bool | None]) -> None:
    ids = tk.encode(response)
    ends = task.splitter().split(ids)
    assert [tk.decode(ids[a:b]) for a, b in zip((0, *ends), ends, strict=False)] == steps
    assert list(task.step_labels(EXAMPLE, ids)) == labels


def test_the_walker_says_no_end_that_the_split_has_not() -> None:
    """Over random tokens, and it says all but the last, which may be the response's own end."""
    draw = random.Random(0)
    splitter = pickle.loads(pickle.dumps(TinySplitter()))
    for _ in range(300):
        ids = [draw.choice((tk.ANSWER, tk.EOS, tk.CAREFUL, 10, 11, 12)) for _ in range(draw.randrange(1, 10))]
        walk, ends = splitter.walk(), splitter.split(ids)
        said = [position + 1 for position, token in enumerate(ids) if walk(token)]
        assert ends[-1] == len(ids) and set(ends) - {len(ids)} == set(said) - {len(ids)}


def test_careful_rows_of_the_task_are_right_in_every_step_and_names_have_no_label(task: TinyTask) -> None:
    assert isinstance(task, ChecksSteps)
    for example in task.train_examples(0, 20):
        target = task.target(example)
        assert task.step_labels(example, target) == (True,) * 4
        assert task.grade(example, target, False)[0] is Outcome.CORRECT
    facts = next(suite for suite in task.suites() if suite.name == "facts")
    assert task.step_labels(facts.examples[0], tk.encode("A 4 <eos>")) == (None,)


def test_all_steps_right_is_graded_correct_and_a_wrong_answer_has_a_wrong_step(task: TinyTask) -> None:
    """Over all 3 x 10 x 11 chains whose three last tokens are anything: labels agree with the grader."""
    for second in ("4", "5", "9"):
        for third in tk.DIGITS:
            for answer in (*tk.DIGITS, "?"):
                ids = tk.encode(f"C 3 7 {second} {third} A {answer} <eos>")
                labels, (outcome, _) = task.step_labels(EXAMPLE, ids), task.grade(EXAMPLE, ids, False)
                chain_right = second == "4" and third == "3"
                assert all(labels) is (chain_right and outcome is Outcome.CORRECT)
                assert labels.count(False) == (not all(labels))
