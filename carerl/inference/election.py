"""Elects the answer of a question from its branches, once the grader has read them.

Answers are what the grader makes of them, one string for each class of equivalent answers
(:mod:`carerl.grading.votes`); they are never compared as the response spells them. A pruned branch has no vote, though
its tokens count. A branch without an answer has none either, but its weight counts in the whole, as in every majority
of this project: an answer's confidence is its share of the weight of all branches that ended.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import replace

from .base import Branch, Decoded
from .confidence import TIE

RULES = ("vote", "best")


def elected(decoded: Decoded, answers: Sequence[str | None], rule: str = "vote") -> Decoded:
    """Returns the result with the branches' answers, and the winner that they elect; ``rule`` as :func:`elect`.

    ``answers``: one for each branch, None where the grader found none; those of pruned branches are not looked at.
    """
    branches = tuple(
        branch if branch.pruned else replace(branch, answer=answer)
        for branch, answer in zip(decoded.branches, answers, strict=True)
    )
    winner, confidence = elect(branches, rule)
    return replace(decoded, branches=branches, winner=winner, confidence=confidence)


def elect(branches: Sequence[Branch], rule: str = "vote") -> tuple[int, float]:
    """Returns the number of the winning branch and its answer's share of the weight; (-1, 0) if none has an answer.

    ``vote``: the answer with the most weight, the first drawn of equals; the winner is its heaviest branch. ``best``:
    the answer of the heaviest branch that has one. [ours] If no branch with weight has an answer, all that have one
    vote equally. Raises ValueError for another rule, and for a weight that is negative or not finite.
    """
    election = Election(rule)
    for number, branch in enumerate(branches):
        election.take(number, branch)
    return election.winner(), election.confidence()


class Election:
    """Elects among the branches that it has taken so far, in whatever order they come: ties are broken by their
    numbers. Totals are kept as branches come, so that a winner after each of K costs no K elections."""

    def __init__(self, rule: str = "vote") -> None:
        """Raises ValueError for a rule that there is not."""
        if rule not in RULES:
            raise ValueError(f"rule {rule!r}: use one of {', '.join(RULES)}")
        self._rule = rule
        self._weights: dict[int, float] = {}  # of branches that ended
        self._answers: dict[int, str] = {}
        self._totals: dict[str, float] = {}
        self._voters: dict[str, list[int]] = {}  # by answer (best: all of them together), in drawn order
        self._heaviest: dict[str, float] = {}
        self._weighted = False  # a branch with weight has an answer

    def take(self, number: int, branch: Branch) -> None:
        """Takes one more branch. Raises ValueError for a weight that is negative or not finite."""
        if branch.pruned:
            return
        weight, answer = branch.weight, branch.answer
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weights of votes are finite and not negative: {weight}")
        self._weights[number] = weight
        if answer is None:
            return
        together = answer if self._rule == "vote" else ""
        self._answers[number] = answer
        self._totals[answer] = self._totals.get(answer, 0.0) + weight
        insort(self._voters.setdefault(together, []), number)
        self._heaviest[together] = max(self._heaviest.get(together, 0.0), weight)
        self._weighted = self._weighted or weight > 0

    def winner(self) -> int:
        """Returns the number of the winning branch; -1 if none has an answer."""
        if not self._answers:
            return -1
        together = ""
        if self._rule == "vote":
            totals = self._totals if self._weighted else {a: float(len(voters)) for a, voters in self._voters.items()}
            least = max(totals.values()) * (1 - TIE)
            together = min((a for a, total in totals.items() if total >= least), key=lambda a: self._voters[a][0])
        voters, least = self._voters[together], self._heaviest[together] * (1 - TIE)
        if not self._weighted:
            return voters[0]
        return next(number for number in voters if self._weights[number] >= least)

    def confidence(self) -> float:
        """Returns the share of the weight that the winner's answer has; 0 if none has an answer."""
        winner = self.winner()
        if winner < 0:
            return 0.0
        answer = self._answers[winner]
        if self._weighted:
            return self._totals[answer] / math.fsum(self._weights.values())
        return sum(other == answer for other in self._answers.values()) / len(self._weights)
