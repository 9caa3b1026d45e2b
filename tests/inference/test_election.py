"""Votes: whose count, how they tie, and that answers are what the grader makes of them."""

from __future__ import annotations

import pytest

from carerl.grading import GRADERS, Gold
from carerl.grading.votes import vote
from carerl.inference.base import Branch, Decoded
from carerl.inference.election import elect, elected


def branch(number: int, answer: str | None = None, weight: float = 1.0, pruned: bool = False) -> Branch:
    return Branch((number,), (1, 2), 2, pruned=pruned, weight=weight, answer=answer)


def branches(*parts: tuple) -> list[Branch]:
    return [branch(number, *part) for number, part in enumerate(parts)]


@pytest.mark.parametrize(
    ("votes", "rule", "winner", "confidence"),
    [
        ([("a",), ("b",), ("b",)], "vote", 1, 2 / 3),
        ([("b",), ("a",), ("a",), ("b",)], "vote", 0, 0.5),  # a tie: the first drawn
        ([(None,), ("a",), ("b",)], "vote", 1, 1 / 3),  # one without an answer counts in the whole
        ([("a", 0.3), ("b", 0.5), ("a", 0.3)], "vote", 0, 6 / 11),
        ([("a", 0.3), ("b", 0.2), ("a", 0.5)], "vote", 2, 0.8),  # its heaviest branch
        ([("a", 0.1), ("b", 0.3), ("a", 0.2)], "vote", 0 + 2, 0.5),  # .1 + .2 is .30000000000000004
        ([("b", 0.3), ("a", 0.1), ("a", 0.2)], "vote", 0, 0.5),  # which makes it no winner
        ([("a", 5.0, True), ("b", 0.1)], "vote", 1, 1.0),  # pruned: no vote
        ([("a", 0.0), ("b", 0.0), ("b", 0.0)], "vote", 1, 2 / 3),  # nothing has weight: equal votes
        ([(None, 3.0), ("b", 0.0)], "vote", 1, 0.5),
        ([("a", 0.3), ("b", 0.5), ("a", 0.3)], "best", 1, 5 / 11),
        ([(None, 9.0), ("b", 0.5), ("a", 0.5)], "best", 1, 0.05),
        ([(None,), (None,)], "vote", -1, 0.0),
        ([(None,), ("a", 1.0, True)], "best", -1, 0.0),
        ([("", 1.0), ("", 1.0)], "vote", 0, 1.0),  # an empty answer is one
        ([], "vote", -1, 0.0),
    ],
)
def test_who_is_elected(votes, rule: str, winner: int, confidence: float) -> None:
    assert elect(branches(*votes), rule) == (winner, pytest.approx(confidence))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -0.1])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        elect(branches(("a",), ("b", weight)))
    with pytest.raises(ValueError, match="rule 'most'"):
        elect(branches(("a",)), "most")


def test_answers_are_compared_as_the_grader_compares_them() -> None:
    """The most frequent string is another one than the answer that most responses mean."""
    responses = ["so \\boxed{\\frac{1}{2}}", "so \\boxed{3}", "so \\boxed{0.5}", "so \\boxed{3}", "so \\boxed{1/2}"]
    gold = Gold(("0.5",))
    verdicts = [GRADERS["math"].grade(text, gold, False) for text in responses]
    strings = [verdict.extracted for verdict in verdicts]
    assert max(strings, key=strings.count) == "3"
    decoded = Decoded(tuple(branches(*[()] * 5)), -1, 0.0, 10, 1)
    found = elected(decoded, [vote("math", verdict, gold) for verdict in verdicts])
    assert found.winner == 0 and found.confidence == 0.6
    assert elected(decoded, strings).winner == 1


def test_answers_go_to_the_branches_that_ended() -> None:
    decoded = Decoded((branch(0), branch(1, pruned=True), branch(2)), -1, 0.0, 6, 2, {"threshold": 0.4})
    found = elected(decoded, ["a", "b", None])
    assert [b.answer for b in found.branches] == ["a", None, None]
    assert (found.winner, found.confidence, found.tokens, found.rounds) == (0, 0.5, 6, 2)
    assert found.facts == {"threshold": 0.4}
    with pytest.raises(ValueError, match="zip"):
        elected(decoded, ["a", "b"])
