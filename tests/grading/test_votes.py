r"""Votes: equivalent answers are one, different ones are not, and no right answer shares a vote with a wrong one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from carerl.grading import GRADERS, Gold
from carerl.grading.votes import ABSTENTION, COMPARED, contested, merge, same, vote
from carerl.types import Outcome

CHOICES = (("A", "Paris"), ("B", "Rome"), ("C", "Oslo"))
CASES: list[tuple[str, Gold, list[list[str]]]] = [
    # grader, gold answer, classes of responses that vote together
    ("math", Gold((r"\frac12",)), [
        [r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{\dfrac{2}{4}}"], [r"\boxed{2}", r"\boxed{2.0}"]]),
    ("math", Gold(("1", "-1")), [[r"\boxed{1}", r"\boxed{x=1}"], [r"\boxed{-1}"], [r"\boxed{3}"]]),
    ("math", Gold((r"2\sqrt{2}",)), [[r"\boxed{\sqrt{8}}", r"\boxed{2\sqrt2}"], [r"\boxed{\sqrt{7}}"]]),
    ("math", Gold((r"5\text{ cm}",)), [[r"\boxed{5}", r"\boxed{5\text{ cm}}"], [r"\boxed{5\text{ kg}}"]]),
    ("math", Gold(("1, 9",)), [[r"\boxed{9, 1}", r"\boxed{1} and \boxed{9}"], [r"\boxed{1}"], [r"\boxed{9, 2}"]]),
    ("gsm8k", Gold(("1234",)), [["#### 1,234", "It is 1234."], ["#### 1235"]]),
    ("choice", Gold(("B",), CHOICES), [[r"\boxed{B}", r"\boxed{(B) Rome}", r"\boxed{Rome}"], [r"\boxed{A}"]]),
    ("countdown", Gold(numbers=(4, 6, 1), target=24), [
        ["<answer>4*6*1</answer>", "<answer>6 * 4 / 1</answer>", "<answer>(4 * 6) * 1 = 24</answer>"],
        ["<answer>4*6</answer>", "<answer>6*4</answer>"], ["<answer>4+6+1</answer>"], ["<answer>4*6*1 = 25</answer>"]]),
    ("selfaware", Gold(("Rome", "Roma")), [
        ["Rome", "It is Roma."], ["Paris", "paris!"], ["I don't know.", "Nobody knows."]]),
    ("selfaware", Gold(answerable=False), [["The answer is unknown."], ["Rome"], ["Oslo."]]),
]  # fmt: skip


def votes_of(grader: str, gold: Gold, responses: list[str]) -> tuple[list[str | None], list[Outcome]]:
    verdicts = [GRADERS[grader].grade(response, gold, False) for response in responses]
    return [vote(grader, verdict, gold) for verdict in verdicts], [verdict.outcome for verdict in verdicts]


def merged_votes(grader: str, votes: Sequence[str | None], outcomes: Sequence[Outcome]) -> list[str | None]:
    """As the actors that grade merge them, without their processes."""
    compared = contested(grader, votes, outcomes)
    equal = {pair for pair in itertools.combinations(compared, 2) if same(*pair)}
    return merge(votes, outcomes, compared, equal)


@pytest.mark.parametrize(("grader", "gold", "classes"), CASES)
def test_equivalent_answers_vote_together_and_others_apart(grader: str, gold: Gold, classes: list[list[str]]) -> None:
    flat = [response for responses in classes for response in responses]
    votes, outcomes = votes_of(grader, gold, flat)
    merged = merged_votes(grader, votes, outcomes)
    ends = list(itertools.accumulate(len(responses) for responses in classes))
    groups = [merged[end - len(responses) : end] for end, responses in zip(ends, classes, strict=True)]
    assert all(len(set(group)) == 1 and group[0] is not None for group in groups), merged
    assert len({group[0] for group in groups}) == len(groups), merged
    right = {v for v, o in zip(merged, outcomes, strict=True) if o is Outcome.CORRECT}
    wrong = {v for v, o in zip(merged, outcomes, strict=True) if o is not Outcome.CORRECT}
    assert not right & wrong


def test_wrong_answers_that_mean_the_same_are_one_vote_whatever_their_order() -> None:
    gold = Gold(("7",))
    responses = [
        rf"\boxed{{{a}}}" for a in (r"1, \sqrt{2}", r"\sqrt2, 1", r"\sqrt{2}, 1", r"\sqrt{3}", "(1,2)", "(2,1)", "7")
    ]
    votes, outcomes = votes_of("math", gold, responses)
    merged = merged_votes("math", votes, outcomes)
    assert merged[0] == merged[1] == merged[2] and len(set(merged)) == 5
    rng = random.Random(0)
    for _ in range(20):
        order = rng.sample(range(len(votes)), len(votes))
        again = merged_votes("math", [votes[i] for i in order], [outcomes[i] for i in order])
        assert again == [merged[i] for i in order]


def test_only_a_few_answers_are_compared_with_each_other() -> None:
    """Where there are more, the rare ones keep their own spelling: a question costs a bounded number of comparisons."""
    spelled = [rf"{i}+\pi" for i in range(COMPARED)] + [r"\pi + 0"]
    votes: list[str | None] = [form for k, form in enumerate(spelled) for _ in range(len(spelled) - k)]
    outcomes = [Outcome.WRONG] * len(votes)
    assert merged_votes("math", votes, outcomes) == votes
    assert merged_votes("math", [r"0+\pi", r"\pi + 0"], outcomes[:2]) != [r"0+\pi", r"\pi + 0"]


@pytest.mark.parametrize("outcome", [Outcome.UNPARSED, Outcome.TRUNCATED, Outcome.INVALID])
def test_what_was_not_judged_votes_for_nothing(outcome: Outcome) -> None:
    verdict = GRADERS["math"].grade(r"\boxed{9}", Gold(("9",)), False)
    assert vote("math", verdict, Gold(("9",))) == "9"
    assert vote("math", type(verdict)(outcome, verdict.extracted), Gold(("9",))) is None


def test_every_abstention_is_one_vote() -> None:
    for gold in (Gold(("Rome",)), Gold(answerable=False)):
        votes, outcomes = votes_of("selfaware", gold, ["I don't know.", "The answer is unknown.", "Nobody knows."])
        assert votes == [ABSTENTION] * 3 and outcomes == [Outcome.ABSTAINED] * 3


@pytest.mark.parametrize("answer", ["1E999999", "2e-100+x", "10^{10^9}", "x^{99}+1", "12345678901+x", "5!+x"])
def test_what_would_run_into_the_limit_is_not_compared_by_value(answer: str) -> None:
    votes = [answer, r"1+\pi", "x+y"]
    assert contested("math", votes, [Outcome.WRONG] * 3) == [r"1+\pi", "x+y"]
    assert contested("choice", votes, [Outcome.WRONG] * 3) == []


def test_votes_that_are_equal_to_one_spelling_are_equal_to_each_other() -> None:
    """Equality to 60 digits is no equivalence relation: a vote joins the first class whose spelling it equals, and what
    joined is no spelling."""
    votes = ["a", "a", "a", "b", "b", "c"]
    outcomes = [Outcome.WRONG] * 6
    assert merge(votes, outcomes, ["a", "b", "c"], {("a", "b"), ("b", "c")}) == ["a"] * 5 + ["c"]
    assert merge(votes, outcomes, ["a", "b", "c"], {("b", "c")}) == ["a"] * 3 + ["b"] * 3
    assert merge(["a", "b"], [Outcome.WRONG, Outcome.CORRECT], ["a", "b"], {("a", "b")}) == ["a", "b"]
