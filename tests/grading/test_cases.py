r"""The tables of :mod:`tests.grading.cases`: answers as models write them, and near misses, in every grader.

Their verdicts are by hand. Not covered: real solutions and rewrites of real answers (``test_graders``,
``test_equivalence``).
"""

from __future__ import annotations

import pytest

from carerl.grading import GRADERS, Gold, Verdict, equivalent, normalise
from carerl.types import Outcome
from tests.grading.cases import (
    ABSTENTIONS,
    ANSWERED,
    CHOICES,
    CHOSEN,
    COUNTDOWN,
    DIFFERENT,
    EQUAL,
    GUESSES,
    NAMED,
    NOT_CHOSEN,
    RESPONSES,
)

CORRECT, WRONG, ABSTAINED = Outcome.CORRECT, Outcome.WRONG, Outcome.ABSTAINED


def grade(task: str, response: str, gold: Gold) -> Verdict:
    return GRADERS[task].grade(response, gold, False)


@pytest.mark.parametrize("name", EQUAL)
def test_answers_that_mean_the_same(name: str) -> None:
    assert [pair for pair in EQUAL[name] if not equivalent(*pair)] == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_answers_that_do_not(name: str) -> None:
    assert [pair for pair in DIFFERENT[name] if equivalent(*pair)] == []


@pytest.mark.parametrize("name", EQUAL)
def test_normal_forms_of_the_cases_are_their_own(name: str) -> None:
    forms = [normalise(text) for pair in [*EQUAL[name], *DIFFERENT.get(name, [])] for text in pair]
    assert [form for form in forms if normalise(form) != form] == []


@pytest.mark.parametrize("name", EQUAL)
def test_every_gold_equals_itself_and_no_gold_of_another_value(name: str) -> None:
    """Each accepted spelling, plus a number that no case is about: nothing takes up what stands beside the answer."""
    for answer, gold in EQUAL[name]:
        assert equivalent(gold, gold)
        assert not equivalent(answer, "98765"), answer
        assert not equivalent("98765", gold), gold


@pytest.mark.parametrize(("task", "gold", "right", "wrong"), RESPONSES)
def test_responses(task: str, gold: str, right: list[str], wrong: list[str]) -> None:
    found = {response: grade(task, response, Gold((gold,))).outcome for response in right + wrong}
    assert [r for r in right if found[r] is not CORRECT] == []
    assert [r for r in wrong if found[r] is CORRECT] == []


@pytest.mark.parametrize("accepted", [("Paris",), ()])
def test_abstentions_and_what_sounds_like_them(accepted: tuple[str, ...]) -> None:
    gold = Gold(accepted, answerable=bool(accepted))
    assert [r for r in ABSTENTIONS if grade("selfaware", r, gold).outcome is not ABSTAINED] == []
    assert [r for r in ANSWERED if grade("selfaware", r, gold).outcome is ABSTAINED] == []


def test_an_alias_is_named_by_an_answer_and_by_no_list_of_guesses_or_denial() -> None:
    found = {r: grade("selfaware", r, Gold(("Paris",))).outcome for r in NAMED + GUESSES}
    assert [r for r in NAMED if found[r] is not CORRECT] == []
    assert [r for r in GUESSES if found[r] is CORRECT] == []


@pytest.mark.parametrize("form", ["<answer>{}</answer>", r"\boxed{{{}}}", "{}"])
@pytest.mark.parametrize(("numbers", "target", "right", "wrong"), COUNTDOWN)
def test_countdown(numbers: tuple[int, ...], target: int, right: list[str], wrong: list[str], form: str) -> None:
    gold = Gold((str(target),), numbers=numbers, target=target)
    found = {r: grade("countdown", form.format(r), gold).outcome for r in right + wrong}
    assert [r for r in right if found[r] is not CORRECT] == []
    assert [r for r in wrong if found[r] is CORRECT] == []


def test_choices() -> None:
    gold = Gold(("B",), choices=CHOICES)
    assert [r for r, label in CHOSEN if grade("choice", r, gold).extracted != label] == []
    assert [r for r in NOT_CHOSEN if grade("choice", r, gold).outcome is CORRECT] == []


@pytest.mark.parametrize(
    ("task", "gold", "response", "outcome"),
    [
        ("math", "2.4", "Final answer:\n\\[\n2.4\n\\]", CORRECT),
        ("math", "5", "The answer is:\n\n$$\n5\n$$", CORRECT),
        ("math", "5", "**Final Answer**\n\n$5$", CORRECT),
        ("math", "5", "### Final Answer\n\n5", CORRECT),
        ("math", "5", "The answer would be 5.", CORRECT),
        ("math", "5", "The answer is thus $5$.", CORRECT),
        ("math", "1,2", "The answers are 1 and 2.", CORRECT),
        ("math", "5", "#### 5", CORRECT),
        ("math", "5", "<answer>5</answer><|im_end|>", CORRECT),
        ("math", "5", "The answer is $5$ or $7$.", WRONG),
        ("math", "5", "The answer is $7$, not $5$.", WRONG),
        ("math", "5", "The answer is $5 and $7", WRONG),
        ("math", r"25\pi", r"\boxed{25\pi\text{ cm}^2}", CORRECT),
        ("math", r"\sqrt{14}", r"\boxed{√14}", CORRECT),
        ("math", r"\sqrt{14}", r"\boxed{\sqrt14}", CORRECT),
        ("math", "4", r"\boxed{√14}", WRONG),
        ("math", r"\sqrt{x+1}", r"\boxed{√(x+1)}", CORRECT),
        ("gsm8k", "18", "#### 1. Find eggs\n3\n#### 2. Multiply\nso \\boxed{18}", CORRECT),
        ("gsm8k", "18", "The answer is $18 per day", CORRECT),
        ("gsm8k", "18", "#### $18 per day.", CORRECT),
        ("gsm8k", "18", "#### 18<|im_end|>", CORRECT),
    ],
)
def test_ways_in_which_models_put_an_answer(task: str, gold: str, response: str, outcome: Outcome) -> None:
    assert grade(task, response, Gold((gold,))).outcome is outcome
