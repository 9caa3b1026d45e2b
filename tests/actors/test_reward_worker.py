"""Grading in its actor, without Ray: what a grader that raises does to a sample, to its group and to a run."""

from __future__ import annotations

from typing import Any

import pytest

from carerl.actors.crew import Grading, GradingError
from carerl.actors.grading import RewardWorker
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
    groups, raised = worker.grade([Group(Example("e", (0,), ""), samples)])
    assert ("the grader broke (grading a response to e)" in raised) == (3 in responses)
    return groups[0].samples


def test_pitfall_15_a_grader_that_raises_makes_its_sample_invalid_and_no_other() -> None:
    found = graded(1, 3, 2)
    assert [s.outcome for s in found] == [Outcome.CORRECT, Outcome.INVALID, Outcome.WRONG]
    assert [s.reward for s in found] == [1.0, 0.0, 0.0]
    assert [s.answer for s in found] == ["1", None, "2"]


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None])
def test_pitfall_15_a_reward_that_is_no_number_makes_its_sample_invalid(reward: Any) -> None:
    """One NaN would poison its whole group's advantages."""
    worker: Any = RewardWorker()
    worker._task, worker._reward = Grader(), lambda sample, text: reward if sample.answer == "2" else 1.0
    samples = [Sample("e", (r,), (-1.0,), False, 0) for r in (1, 2)]
    groups, raised = worker.grade([Group(Example("e", (0,), ""), samples)])
    assert [s.outcome for s in groups[0].samples] == [Outcome.CORRECT, Outcome.INVALID]
    assert [s.reward for s in groups[0].samples] == [1.0, 0.0] and "rewarding a response to e" in raised


def test_pitfall_15_a_grader_that_fails_on_everything_ends_the_run_and_one_bad_prompt_does_not() -> None:
    """A reward of 0 for all would go on training without a word; a refill may be one strange prompt."""
    grading = Grading([])
    broken, fine = [Group(Example("e", (0,), ""), graded(*responses)) for responses in ((3, 3), (3, 1))]
    grading.check([broken, fine])
    with pytest.raises(GradingError, match="no response of 2 prompts"):
        grading.check([broken, broken])
