"""Verdicts of steps: from the task, from completions on a chain whose success probability is known, from a text."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from scipy import stats

from carerl.preferences.judges import (
    agreement,
    by_completions,
    by_review,
    by_task,
    judge_messages,
    judge_verdicts,
    next_places,
    share_right,
    to_complete,
)
from carerl.preferences.records import Solution
from carerl.types import Outcome
from tests.preferences.solved import solved

# An enumerable chain: from state s a token t is drawn with CHAIN[s][t]; token 3 ends it right and 4 ends it wrong.
CHAIN = {
    0: {1: 0.6, 2: 0.3, 4: 0.1},
    1: {3: 0.7, 2: 0.2, 4: 0.1},
    2: {2: 0.3, 3: 0.15, 4: 0.55},
}
RIGHT, WRONG = 3, 4


def success(state: int) -> float:
    """Exactly: token 2 may repeat, so that its equation is solved; 1 leads to 2 and never back."""
    p2 = CHAIN[2][RIGHT] / (1 - CHAIN[2][2])
    p1 = CHAIN[1][RIGHT] + CHAIN[1][2] * p2
    return {1: p1, 2: p2, 0: CHAIN[0][1] * p1 + CHAIN[0][2] * p2}[state]


def complete(prefix: tuple[int, ...], draw: random.Random) -> bool:
    state = prefix[-1] if prefix else 0
    while state not in (RIGHT, WRONG):
        options = CHAIN[state]
        (state,) = draw.choices(list(options), list(options.values()))
    return state == RIGHT


def test_monte_carlo_verdicts_lie_in_the_binomial_interval_of_the_exact_success() -> None:
    """400 completions a step; the interval holds 99.9 %. It excludes the other state's success, so it can fail."""
    n, draw = 400, random.Random(0)
    solutions = [solved([((1,), None, 0.5), ((2,), None, 0.5), ((2, 3), None, 0.5)], Outcome.CORRECT)]
    prefixes = to_complete(solutions)
    assert prefixes == [(1,), (1, 2)]
    shares = {prefix: sum(complete(prefix, draw) for _ in range(n)) / n for prefix in prefixes}
    found = by_completions(solutions[0], shares)
    for step, state in zip(found.steps, (1, 2), strict=False):
        low, high = stats.binom.interval(0.999, n, success(state))
        assert step.right is not None and low / n <= step.right <= high / n
        other = success(2 if state == 1 else 1)
        assert not low / n <= other <= high / n
    assert found.steps[-1].right == 1.0


def test_each_prefix_is_completed_once_and_no_end() -> None:
    solutions = [
        solved([((1,), None, 0.5), ((2,), None, 0.5), ((3,), None, 0.5)]),
        solved([((1, 2), None, 0.5), ((3,), None, 0.5)]),
        solved([((1,), None, 0.5), ((4, 5), None, 0.5)], truncated=True),
    ]
    assert to_complete(solutions) == [(1,), (1, 2)]


@pytest.mark.parametrize(
    ("outcome", "truncated", "last"),
    [
        (Outcome.CORRECT, False, 1.0),
        (Outcome.WRONG, False, 0.0),
        (Outcome.ABSTAINED, False, 0.0),
        (Outcome.UNPARSED, False, 0.0),
        (Outcome.INVALID, False, None),
        (Outcome.TRUNCATED, True, None),
        (Outcome.CORRECT, True, None),
        (None, False, None),
    ],
)
def test_the_last_step_has_the_graders_verdict(outcome: Outcome | None, truncated: bool, last: float | None) -> None:
    steps = [((1,), None, 0.5), ((2,), None, 0.5), ((3,), None, 0.5)]
    made = solved(steps, outcome, truncated)
    found = by_completions(made, {(1,): 0.5, (1, 2): None})
    assert [step.right for step in found.steps] == [0.5, None, last]
    reviewed = by_review(made, r"\boxed{2}", 9)  # the review says that it is the last step which is wrong
    assert [step.right for step in reviewed.steps] == [1.0, 1.0, 0.0 if last is None else last]
    assert (reviewed.review, reviewed.judge_tokens) == (r"\boxed{2}", 9)


def test_steps_behind_the_first_wrong_one_have_no_verdict_and_are_not_completed() -> None:
    """Also where the grader finds the response right, and where wrong is more than no right completion at all."""
    steps = [((1,), None, 0.5), ((2,), None, 0.5), ((3,), None, 0.5), ((4,), None, 0.5)]
    made, other = solved(steps, Outcome.CORRECT), solved([((1,), None, 0.5), ((9,), None, 0.5), ((4,), None, 0.5)])
    shares: dict[tuple[int, ...], float | None] = {}
    assert next_places([made, other], shares, 0.25) == [(1,)], "the same place"
    shares[1,] = 0.5
    assert next_places([made, other], shares, 0.25) == [(1, 2), (1, 9)]
    shares |= {(1, 2): 0.25, (1, 9): None}
    assert next_places([made, other], shares, 0.25) == []
    assert next_places([made, other], shares, 0.0) == [(1, 2, 3)]
    assert [step.right for step in by_completions(made, shares, 0.25).steps] == [0.5, 0.25, None, None]
    assert [step.right for step in by_completions(made, shares, 0.0).steps] == [0.5, 0.25, None, 1.0]
    assert [step.right for step in by_completions(other, shares, 0.25).steps] == [0.5, None, 0.0]
    assert [step.right for step in by_review(made, r"\boxed{1}", 1).steps] == [1.0, 0.0, None, None]


def test_completions_that_could_not_be_graded_are_no_votes() -> None:
    samples = [solved([((1,), None, 0.5)], outcome).sample for outcome in (*[Outcome.INVALID] * 3, Outcome.CORRECT)]
    assert share_right(samples) == 1.0 and share_right(samples[:3]) is None
    cut = solved([((1,), None, 0.5)], Outcome.TRUNCATED, truncated=True).sample
    assert share_right([*samples, cut]) == 0.5


def test_the_judge_agrees_with_the_grader_where_both_say_all_right_or_both_do_not() -> None:
    def reviewed(review: str, outcome: Outcome, truncated: bool = False) -> Solution:
        steps = [((1,), None, 0.5), ((2,), None, 0.5)]
        return by_review(solved(steps, outcome, truncated), review, 1)

    right, wrong = r"\boxed{-1}", r"\boxed{1}"
    agreed = [reviewed(right, Outcome.CORRECT), reviewed(wrong, Outcome.WRONG)]
    apart = [reviewed(right, Outcome.WRONG), reviewed(wrong, Outcome.CORRECT), reviewed(r"\boxed{0}", Outcome.CORRECT)]
    left_out = [
        reviewed("I cannot say.", Outcome.CORRECT), reviewed(right, Outcome.INVALID),
        reviewed(wrong, Outcome.TRUNCATED, True), solved([((1,), 1.0, 0.5)], Outcome.CORRECT),
    ]  # fmt: skip
    assert agreement([*agreed, *apart, *left_out]) == pytest.approx(2 / 5)
    assert agreement(left_out) is None
    assert [step.right for step in reviewed("I cannot say.", Outcome.CORRECT).steps] == [None, None]


def test_the_task_s_labels_become_numbers_and_nothing_else_changes() -> None:
    made = solved([((1,), None, 0.5), ((2,), 1.0, 0.25), ((3,), 0.0, 0.75)])
    found = by_task(made, (True, False, None))
    assert [step.right for step in found.steps] == [1.0, 0.0, None]
    assert [(s.start, s.end, s.confidence) for s in found.steps] == [(0, 1, 0.5), (1, 2, 0.25), (2, 3, 0.75)]
    assert found.sample is made.sample
    with pytest.raises(ValueError, match="shorter"):
        by_task(made, (True, False))


@pytest.mark.parametrize(
    ("reply", "verdicts"),
    [
        (r"All is well. \boxed{-1}", (1.0, 1.0, 1.0)),
        ("The answer is \\boxed{\N{MINUS SIGN}1}.", (1.0, 1.0, 1.0)),
        (r"\boxed{0}", (0.0, None, None)),
        (r"Step 1: $2+2=5$ is wrong, so \boxed{1}.", (1.0, 0.0, None)),
        (r"First I thought \boxed{0}, but it is \boxed{2}", (1.0, 1.0, 0.0)),  # the last one counts
        (r"\boxed{$ 2. $}", (1.0, 1.0, 0.0)),
        (r"\boxed{3}", None),  # there is no such step
        (r"\boxed{-2}", None),
        (r"\boxed{1.5}", None),
        (r"\boxed{step 1}", None),
        (r"\boxed{}", None),
        (r"\boxed{²}", None),
        (r"\boxed{--1}", None),
        (r"\boxed{-}", None),
        (r"\boxed{" + "1" * 5000 + "}", None),
        ("Step 1 is wrong.", None),
        ("1", None),
        ("", None),
    ],
)
def test_a_reply_is_read_or_no_vote(reply: str, verdicts: tuple[float | None, ...] | None) -> None:
    assert judge_verdicts(reply, 3) == (verdicts or (None, None, None))


def test_every_step_that_can_be_named_is_read_back() -> None:
    for steps in range(1, 12):
        for first in range(steps):
            found = judge_verdicts(rf"\boxed{{{first}}}", steps)
            assert found == (1.0,) * first + (0.0,) + (None,) * (steps - first - 1)
        assert judge_verdicts(r"\boxed{-1}", steps) == (1.0,) * steps


def test_the_prompt_has_the_question_and_each_step_between_its_own_tags() -> None:
    """Braces in the texts are the texts'; and the prompt itself, given back as a reply, is no vote."""
    texts = ["Let $x = \\frac{1}{2}$.\n\n", "Then {x} is 1.", "So \\boxed{1} it is"]
    (message,) = judge_messages("What is {y} in $\\sqrt{2}$?", texts)
    text = message["content"]
    assert message["role"] == "user" and "What is {y} in $\\sqrt{2}$?" in text
    places = [text.index(mark) for n in range(3) for mark in (f"<step_{n}>", texts[n].strip(), f"</step_{n}>")]
    assert all(a < b for a, b in pairwise(places)) and "<step_3>" not in text
    assert "-1" in text and text.rstrip().endswith("\\boxed{}.")
    assert judge_verdicts(text, 3) == (None, None, None)
