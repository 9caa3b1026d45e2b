"""What responses that could not be graded mean to a run. Not covered: how one becomes INVALID
(``tests/tasks/test_judging``)."""

from __future__ import annotations

import pytest

from carerl.actors.handles.graders import Graders, GradingError
from carerl.types import Example, Group, Outcome, Sample


def group(invalid: int, samples: int) -> Group:
    """Returns a group of so many graded samples, the first ``invalid`` of which could not be graded."""
    outcomes = [Outcome.INVALID] * invalid + [Outcome.CORRECT] * (samples - invalid)
    return Group(Example("e", (0,), ""), [Sample("e", (1,), (-1.0,), False, (0, 0), outcome=o) for o in outcomes])


def test_pitfall_15_a_grader_that_fails_on_everything_ends_the_run_and_one_bad_prompt_does_not() -> None:
    """A reward of 0 for all would go on training without a word; a refill may be one strange prompt."""
    grading = Graders([])
    broken, fine = [group(2, 2), group(1, 2)]
    grading.check([broken, fine])
    with pytest.raises(GradingError, match="no response of 2 prompts"):
        grading.check([broken, broken])


def test_responses_that_cannot_be_graded_are_told_of_and_end_a_run_above_a_share_of_them() -> None:
    """They are trained on as wrong ones, right or not: a broken grader of one kind of question must not go unseen."""
    grading = Graders([])

    def groups(invalid: int) -> list[Group]:
        return [group(invalid, 100)]

    assert grading.check(groups(0), 0.2) == ""
    assert grading.check(groups(1), 0.2).startswith("1 of 100 responses could not be graded")
    assert grading.check(groups(1), 0.2) == "", "told once"
    assert "grading.max_invalid" in grading.check(groups(20), 0.2), "twice as many are news"
    with pytest.raises(GradingError, match=r"21 of 100 responses .*\n  remedy: .*grading.max_invalid=0.2"):
        grading.check(groups(21), 0.2)
    with pytest.raises(GradingError):
        grading.check(groups(1), 0.0)
