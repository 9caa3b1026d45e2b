"""Grading in its actor, without Ray: what a grader that raises does to a sample, to its group and to a run."""

from __future__ import annotations

from typing import Any

import pytest

from carerl.actors.workers import RewardWorker
from carerl.rewards import REWARDS
from carerl.types import Example, Group, Outcome, Sample


class Grader:
    """A task that knows three responses: 1 is right, 2 is wrong, 3 raises."""

    def grade(self, example: Example, response_ids: tuple[int, ...], truncated: bool) -> tuple[Outcome, str | None]:
        if response_ids == (3,):
            raise RuntimeError("the grader broke")
        return (Outcome.CORRECT if response_ids == (1,) else Outcome.WRONG), str(response_ids[0])


def graded(*responses: int) -> list[Sample]:
    worker: Any = RewardWorker()
    worker._task, worker._reward = Grader(), REWARDS["correct"].build(REWARDS["correct"].config())
    samples = [Sample("e", (r,), (-1.0,), False, 0, answer="stale", reward=9.0) for r in responses]
    return worker.grade([Group(Example("e", (0,), ""), samples)])[0].samples


def test_pitfall_15_a_grader_that_raises_makes_its_sample_invalid_and_no_other() -> None:
    found = graded(1, 3, 2)
    assert [s.outcome for s in found] == [Outcome.CORRECT, Outcome.INVALID, Outcome.WRONG]
    assert [s.reward for s in found] == [1.0, 0.0, 0.0]
    assert [s.answer for s in found] == ["1", None, "2"]


def test_pitfall_15_a_grader_that_raises_on_everything_ends_the_run() -> None:
    """A reward of 0 for all would go on training without a word."""
    with pytest.raises(RuntimeError, match="the grader broke"):
        graded(3, 3)
