r"""The tables of :mod:`tests.grading.notations`, in every grader: notations of an answer, and near misses.

Not covered: rewrites of real answers into these notations (``rewrites``, ``test_equivalence``).
"""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from carerl.grading import GRADERS, Gold, equivalent, normalise
from carerl.grading.math.doubles import is_double_of
from carerl.types import Outcome
from tests.grading.notations import ANSWERS, CHOICES, CHOSEN, COUNTDOWN, RESPONSES

CORRECT = Outcome.CORRECT


def outcome(task: str, response: str, gold: Gold) -> Outcome:
    return GRADERS[task].grade(response, gold, False).outcome


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [pytest.param(*row, id=f"{kind}: {row[0]}") for kind in ANSWERS for row in ANSWERS[kind]],
)
def test_answers_in_a_box(gold: str, right: list[str], wrong: list[str]) -> None:
    found = {answer: outcome("math", f"So \\boxed{{{answer}}}.", Gold((gold,))) for answer in [*right, *wrong, gold]}
    assert [answer for answer in [*right, gold] if found[answer] is not CORRECT] == []
    assert [answer for answer in wrong if found[answer] is CORRECT] == []


@pytest.mark.parametrize("kind", ANSWERS)
def test_normal_forms_are_their_own(kind: str) -> None:
    forms = [normalise(answer) for gold, right, wrong in ANSWERS[kind] for answer in [gold, *right, *wrong]]
    assert [form for form in forms if normalise(form) != form] == []


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_spelling_equals_another_gold(kind: str) -> None:
    """Nothing takes up what stands beside the answer."""
    for _, right, _ in ANSWERS[kind]:
        assert [answer for answer in right if equivalent(answer, "98765") or equivalent("98765", answer)] == []


@pytest.mark.parametrize(("task", "gold", "right", "wrong"), RESPONSES)
def test_responses(task: str, gold: str, right: list[str], wrong: list[str]) -> None:
    found = {response: outcome(task, response, Gold((gold,))) for response in right + wrong}
    assert [r for r in right if found[r] is not CORRECT] == []
    assert [r for r in wrong if found[r] is CORRECT] == []


@pytest.mark.parametrize("form", ["<answer>{}</answer>", r"\boxed{{{}}}"])
@pytest.mark.parametrize(("numbers", "target", "right", "wrong"), COUNTDOWN)
def test_countdown(numbers: tuple[int, ...], target: int, right: list[str], wrong: list[str], form: str) -> None:
    gold = Gold((str(target),), numbers=numbers, target=target)
    found = {r: outcome("countdown", form.format(r), gold) for r in right + wrong}
    assert [r for r in right if found[r] is not CORRECT] == []
    assert [r for r in wrong if found[r] is CORRECT] == []


def test_choices_in_full_width() -> None:
    found = {r: GRADERS["choice"].grade(r, Gold(("A",), choices=CHOICES), False).extracted for r, _ in CHOSEN}
    assert [(r, label) for r, label in CHOSEN if found[r] != label] == []


@pytest.mark.parametrize("seed", range(200))
def test_a_double_is_known_by_its_digits_and_nothing_coarser_is(seed: int) -> None:
    """Python prints the shortest decimal that reads as the double; its neighbours and shorter ones are others."""
    generator = random.Random(seed)
    value = Fraction(generator.randrange(1, 10**6), generator.choice([3, 7, 11, 13, 999, 1234567]))
    if value.denominator == 1:
        return
    double = float(value)
    assert is_double_of(f"{double:.17g}", value) or "." not in f"{double:.17g}"
    assert is_double_of(f"{double:#.15g}", value)
    assert len(repr(double).replace(".", "").lstrip("0")) < 12 or is_double_of(repr(double), value)
    for digits in (6, 10, 13):
        shorter = f"{double:#.{digits}g}"
        assert float(shorter) == double or not is_double_of(shorter, value)
    for step in (2, -2):
        other = double * (1 + step * 2**-50)
        assert not is_double_of(f"{other:#.16g}", value)
