"""Rewards are numbers made from outcomes; the outcome stays what it was."""

from __future__ import annotations

import pytest

from carerl.rewards import REWARDS
from carerl.types import Outcome, Sample


def sample(outcome: Outcome | None) -> Sample:
    return Sample("e", (1,), (-0.1,), False, 0, outcome=outcome)


def test_pitfall_15_only_a_correct_outcome_is_rewarded():
    entry = REWARDS["correct"]
    reward = entry.build(entry.config())
    assert {outcome: reward(sample(outcome)) for outcome in Outcome} == {
        Outcome.CORRECT: 1.0,
        Outcome.WRONG: 0.0,
        Outcome.ABSTAINED: 0.0,
        Outcome.UNPARSED: 0.0,
        Outcome.TRUNCATED: 0.0,
        Outcome.INVALID: 0.0,
    }


def test_a_sample_without_outcome_is_not_a_wrong_one():
    entry = REWARDS["correct"]
    with pytest.raises(ValueError, match="not been graded"):
        entry.build(entry.config())(sample(None))
