"""Grades that are counted a few at a time. What a warning says is in actors/handles/test_graders.py."""

from __future__ import annotations

import pytest

from carerl.actors.handles.graders import Graders, GradingError
from carerl.controller.grade_tally import ENOUGH, GradeTally
from carerl.types import Example, Group, Outcome, Sample


def groups(outcome: Outcome, count: int) -> list[Group]:
    sample = Sample("q", (1,), (-0.1,), False, (0, 0), outcome)
    return [Group(Example("q", (1,), "3"), [sample]) for _ in range(count)]


def tally_of(most: float) -> tuple[GradeTally, list[str]]:
    said: list[str] = []
    return GradeTally(Graders([]), most, said.append), said


def test_a_few_failures_at_the_beginning_end_nothing() -> None:
    """Three of three are no proof; three of a hundred are a share of .03."""
    tally, said = tally_of(0.05)
    tally.add(groups(Outcome.INVALID, 3))
    assert said == []
    tally.add(groups(Outcome.WRONG, ENOUGH - 3))
    assert len(said) == 1 and said[0].startswith(f"3 of {ENOUGH} responses could not be graded")
    tally.check()
    assert len(said) == 1, "a share that was reported is not reported again"


def test_a_share_above_what_is_accepted_ends_the_run_once_it_proves_something() -> None:
    tally, _ = tally_of(0.05)
    tally.add(groups(Outcome.INVALID, 6))
    with pytest.raises(GradingError, match=f"6 of {ENOUGH} responses"):
        tally.add(groups(Outcome.CORRECT, ENOUGH - 6))


def test_a_grader_that_fails_always_is_found_in_the_end_at_the_latest() -> None:
    tally, _ = tally_of(1.0)
    tally.add(groups(Outcome.INVALID, 3))
    with pytest.raises(GradingError, match="no response of 3 prompts"):
        tally.check()
    with pytest.raises(GradingError, match=f"no response of {ENOUGH + 3} prompts"):
        tally.add(groups(Outcome.INVALID, ENOUGH))
