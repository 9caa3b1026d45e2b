"""Decides outcomes by the toss of a coin, for a rehearsal.

A model with random weights is never right: every group would be uniform, nothing would be learned, and dynamic sampling
would draw prompts without end. So that a rehearsal trains, outcomes are replaced after grading. A toss depends only on
the seed, the question and the sample's number: a repeated or resumed run has the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from carerl.grading.votes import ABSTENTION
from carerl.types import Group, Outcome


def heads(seed: int, example_id: str, sample: int) -> bool:
    """Returns True if the ``sample``-th response to a question counts as right. The coin is fair, and tosses are
    independent.

    >>> sum(heads(100, f"train/0/q{k}", 0) for k in range(1000))
    520
    """
    return bool(hashlib.sha256(f"{seed} {sample} {example_id}".encode()).digest()[0] & 1)


def toss(groups: Sequence[Group], seed: int) -> None:
    """Replaces the outcomes of graded groups, in place, so that half of the samples are right.

    Where the coin says right, outcome and vote become those of a right answer. Where it says wrong, the grade stays,
    except that a right answer becomes a wrong one without a vote. INVALID always stays: it is a fault of the grading,
    which a rehearsal should find.
    """
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
