"""Judging groups: what a grader or reward that raises does to its sample and to the others; and for text the outcomes,
votes of whole groups, reasons and rewards, through real grader processes.

Not covered: what failures mean to a run (``tests/actors/handles/test_graders``), and the actor
(``tests/actors/workers/test_grader``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from carerl.grading import Gold
from carerl.grading.pool import GraderPool
from carerl.loss.batching import informative
from carerl.rewards import REWARDS
from carerl.tasks import TextConfig, TextTask
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.judging import Judge
from carerl.types import Example, Group, Outcome, Sample

CORRECT = REWARDS["correct"].build(REWARDS["correct"].config())


class Grader:
    """A task that knows three responses: 1 is right, 2 is wrong, 3 raises."""

    def grade(self, example: Example, response_ids: tuple[int, ...], truncated: bool) -> tuple[Outcome, str | None]:
        if response_ids == (3,):
            raise RuntimeError("the grader broke")
        return (Outcome.CORRECT if response_ids == (1,) else Outcome.WRONG), str(response_ids[0])


def graded(*responses: int) -> list[Sample]:
    task: Any = Grader()
    samples = [Sample("e", (r,), (-1.0,), False, (0, 0), answer="stale", reward=9.0) for r in responses]
    groups, raised = Judge(task, CORRECT).judge([Group(Example("e", (0,), ""), samples)])
    assert ("the grader broke (grading a response to e)" in raised) == (3 in responses)
    return groups[0].samples


def test_pitfall_15_a_grader_that_raises_makes_its_sample_invalid_and_no_other() -> None:
    found = graded(1, 3, 2)
    assert [s.outcome for s in found] == [Outcome.CORRECT, Outcome.INVALID, Outcome.WRONG]
    assert [s.reward for s in found] == [1.0, 0.0, 0.0]
    assert [s.answer for s in found] == ["1", None, "2"]


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None])
def test_pitfall_15_a_reward_that_is_no_number_makes_its_sample_invalid(reward: Any) -> None:
    """One NaN would poison its whole group's advantages."""
    task: Any = Grader()
    samples = [Sample("e", (r,), (-1.0,), False, (0, 0)) for r in (1, 2)]
    judge = Judge(task, lambda sample, text: reward if sample.answer == "2" else 1.0)
    groups, raised = judge.judge([Group(Example("e", (0,), ""), samples)])
    assert [s.outcome for s in groups[0].samples] == [Outcome.CORRECT, Outcome.INVALID]
    assert [s.reward for s in groups[0].samples] == [1.0, 0.0] and "rewarding a response to e" in raised


ROWS = [
    {"id": "day", "question": "Which day?", "answer": r"\text{Monday}"},
    {"id": "roots", "question": "Roots?", "accepted": ["1, -1"]},
    {"id": "five", "question": "Two and three?", "answer": "5"},
    {"id": "fate", "question": "Who wins?", "answerable": False},
    {"id": "rome", "question": "Capital?", "answer": "Rome", "answerable": True},
    {"id": "sum", "question": "Reach 24.", "numbers": [4, 6], "target": 24},
]
SLOW = r"\int\log(\sin(x)+\sqrt{x})dx"  # against a text it is wrong at once, against its like it takes half a minute
DONT_KNOW = "The answer is unknown."

Grade = Callable[..., dict[str, Group]]


@pytest.fixture(scope="module")
def grade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grade]:
    """Groups of responses by the questions' ids, graded and rewarded in one call; they are trained on."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    task, tokenizer = TextTask(TextConfig(train=str(path)), 0), make_byte_tokenizer()
    task.attach(tokenizer)
    examples = {example.id.rpartition("/")[2]: example for example in task.train_examples(0, len(ROWS))}

    def graded(
        responses: dict[str, list[str]], blind: bool = False, golds: dict[str, Gold] | None = None
    ) -> dict[str, Group]:
        groups = []
        for name, texts in responses.items():
            example = examples[name]
            if golds is not None:
                example = replace(example, meta={**example.meta, "gold": golds[name]})
            ids = [tuple(tokenizer.encode(text)) for text in texts]
            groups.append(Group(example, [Sample(name, i, (-1.0,) * len(i), False, (0, 0)) for i in ids]))
        found, graded.raised = Judge(task, CORRECT, pool).judge(groups, blind)  # type: ignore[attr-defined]
        return dict(zip(responses, found, strict=True))

    with GraderPool(workers=2, seconds=1.0) as pool:
        yield graded


def answers(group: Group) -> list[str | None]:
    return [sample.answer for sample in group.samples]


def test_equivalent_answers_of_a_group_are_one_and_confidence_counts_them_so(grade: Grade) -> None:
    boxed = [rf"\boxed{{{a}}}" for a in (r"\pi+1", r"1+\pi", r"\pi+1", r"2+\pi", "-1, 1", r"\pi+1+0")]
    groups = grade({"roots": boxed, "day": boxed[:2]})
    found = answers(groups["roots"])
    assert found[:4] == [r"\pi+1"] * 3 + [r"2+\pi"] and found[5] == r"\pi+1" and found[4] not in found[:4]
    assert [s.confidence for s in groups["roots"].samples] == [4 / 6, 4 / 6, 4 / 6, 1 / 6, 1 / 6, 4 / 6]
    assert [s.outcome for s in groups["roots"].samples].index(Outcome.CORRECT) == 4
    assert len(set(answers(groups["day"]))) == 1
    turned = grade({"day": boxed[:2][::-1], "roots": boxed[::-1]})
    assert answers(turned["roots"]) == found[::-1], "the order of the samples changes nothing"
    assert not any(s.reason for group in groups.values() for s in group.samples)


def test_blind_votes_are_the_same_whatever_the_gold_answer_is(grade: Grade) -> None:
    """An internal reward that counts votes would otherwise learn from how the right ones are spelled, and joined."""
    responses = {
        "roots": [r"\boxed{-1, 1}", r"\boxed{1, -1}", r"\boxed{\pi+1}", r"\boxed{1+\pi}", r"\boxed{1} and \boxed{-1}"],
        "day": [r"\boxed{Monday}", r"\boxed{\text{Tuesday}}", "none"],
        "rome": ["Rome", "The answer is Roma.", DONT_KNOW],
        "sum": ["<answer>4*6</answer>", "<answer>6*4</answer>", "<answer>4+6</answer>"],
    }
    golds = {
        "roots": (Gold(("1, -1",)), Gold((r"1+\pi",)), Gold(("-1",))),
        "day": (Gold(("Monday",)), Gold(("Tuesday",)), Gold(("9",))),
        "rome": (Gold(("Rome", "Roma")), Gold(answerable=False), Gold(("unknown", "The answer is unknown"))),
        "sum": (Gold(numbers=(4, 6), target=24),) * 3,  # part of the question
    }
    usual, blind = [], []
    for k in range(3):
        known = {name: own[k] for name, own in golds.items()}
        usual.append(grade(responses, False, known))
        blind.append(grade(responses, True, known))
        for name in responses:
            outcomes = [[s.outcome for s in found[k][name].samples] for found in (usual, blind)]
            assert outcomes[0] == outcomes[1], "outcomes are by the gold answer, blind or not"
    votes = [[answers(group) for group in groups.values()] for groups in blind]
    assert votes[0] == votes[1] == votes[2]
    assert len({str([answers(group) for group in groups.values()]) for groups in usual}) == 3, "otherwise it shows"
    roots, day, rome, total = votes[0]
    assert roots[2] == roots[3] != roots[0] and day[2] is None and day[0] != day[1] and rome[2] == "?"
    assert total == ["24 from 4, 6", "24 from 4, 6", "10 from 4, 6"]


def test_answers_that_cannot_be_compared_within_the_limits_are_different_and_counted(grade: Grade) -> None:
    texts = [rf"\boxed{{{a}}}" for a in (SLOW, SLOW + "+0", "Monday")]
    (group,) = grade({"day": texts}).values()
    slow, slow_too, right = group.samples
    assert slow.outcome is slow_too.outcome is Outcome.WRONG and slow.answer != slow_too.answer
    assert slow.reason.startswith("not compared: time: ") and slow_too.reason.startswith("not compared: time: ")
    assert right.correct and not right.reason


def test_what_cannot_be_graded_says_why_and_the_rest_is_graded(grade: Grade) -> None:
    slow = r"\boxed{\int_0^1 \sqrt{1+\sin(x^3+e^{x})} \log(1+x^{x}) dx}"
    texts = [slow, r"\boxed{9^{9^{9^9}}}", r"\boxed{5}", "\x00\ud7ff" * 1000, "$" * 5_000]
    group = grade({"five": texts})["five"]
    assert [s.outcome for s in group.samples] == [
        Outcome.INVALID, Outcome.INVALID, Outcome.CORRECT, Outcome.UNPARSED, Outcome.UNPARSED,
    ]  # fmt: skip
    assert [s.reason.partition(":")[0] for s in group.samples] == ["time", "limit", "", "", ""]
    assert [s.answer for s in group.samples][:2] == [None, None]
    assert "(grading a response to five)" in grade.raised  # type: ignore[attr-defined]


def test_abstaining_is_rewarded_where_nobody_can_answer_and_nowhere_else(grade: Grade) -> None:
    """Else such rows would teach nothing: reward 0 for whatever is said."""
    texts = [DONT_KNOW, "Rome", "I don't know."]
    groups = grade({"fate": texts, "rome": texts})
    assert [s.outcome for s in groups["fate"].samples] == [Outcome.ABSTAINED, Outcome.WRONG, Outcome.ABSTAINED]
    assert [s.reward for s in groups["fate"].samples] == [1.0, 0.0, 1.0]
    assert [s.outcome for s in groups["rome"].samples] == [Outcome.ABSTAINED, Outcome.CORRECT, Outcome.ABSTAINED]
    assert [s.reward for s in groups["rome"].samples] == [0.0, 1.0, 0.0]
    assert [s.correct for s in groups["fate"].samples] == [True, False, True]
    assert informative(list(groups.values())).tolist() == [True, True], "dynamic sampling keeps both"


def test_votes_are_found_in_the_grader_processes(grade: Grade) -> None:
    """Expressions are read by a parser of their own, which has limits too."""
    group = grade({"sum": ["<answer>4*6</answer>", "<answer>6*4 = 24</answer>", "<answer>4+6</answer>"]})["sum"]
    assert answers(group) == ["24 from 4, 6", "24 from 4, 6", "10 from 4, 6"]
