r"""The tables of :mod:`tests.tasks.grading.cases`: answers as models write them, and near misses, in every grader.

Their verdicts are by hand. Not covered: real solutions and rewrites of real answers (``test_graders``,
``test_equivalence``).
"""

from __future__ import annotations

import pytest

from carerl.tasks.grading import GRADERS, Gold, Verdict, equivalent, normalise
from carerl.types import Outcome
from tests.tasks.grading.cases import (
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

CORRECT, ABSTAINED = Outcome.CORRECT, Outcome.ABSTAINED


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
