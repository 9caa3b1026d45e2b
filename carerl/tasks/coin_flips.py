"""Outcomes by the toss of a coin, for a rehearsal.

A model of drawn weights is never right: every group would be uniform, nothing would be learned, and dynamic sampling
would draw prompts without end. So that a rehearsal trains, outcomes are replaced after they were graded. A toss follows
from the seed, the question and the sample's number alone: a run that is repeated, or gone on with, has the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from carerl.grading.votes import ABSTENTION
from carerl.types import Group, Outcome


def heads(seed: int, example_id: str, sample: int) -> bool:
    """Whether the ``sample``-th response to a question counts as right; fair, and independent of every other toss.

    >>> sum(heads(100, f"train/0/q{k}", 0) for k in range(1000))
    520
    """
    return bool(hashlib.sha256(f"{seed} {sample} {example_id}".encode()).digest()[0] & 1)


def toss(groups: Sequence[Group], seed: int) -> None:
    """Replaces the outcomes of graded groups, in place; half of the samples become right.

    Where the coin says right, the outcome and the vote become those of a right answer. Where it says wrong, what was
    graded stays, but for a right answer: that becomes a wrong one without a vote. INVALID stays whatever the coin says,
    as it is a fault of the grading, which a rehearsal is there to find."""
    for group in groups:
        for number, sample in enumerate(group.samples):
            if sample.outcome is Outcome.INVALID:
                continue
            right = group.example.gold if sample.answerable else ABSTENTION
            if heads(seed, group.example.id, number):
                sample.outcome = Outcome.CORRECT if sample.answerable else Outcome.ABSTAINED
                sample.answer, sample.reason = right, ""
            elif sample.correct or sample.answer == right:
                sample.outcome, sample.answer = Outcome.WRONG, None
