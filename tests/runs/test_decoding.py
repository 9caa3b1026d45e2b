"""The figures of methods of inference, from questions that can be counted by hand.

Not covered: the statistics behind the intervals (tests/calibration), elections (tests/inference)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from carerl.metrics.table import find_metric
from carerl.runs.decoding import BASELINE, measures, method_figures, metrics_and_intervals
from tests.runs.synthetic_decoding import tree, vote

# right 2/3, right 3/3, wrong 2/3, none: elected shares .667, 1, .667, 0
VOTED = [
    vote(["7", "7", "3"], "a", seconds=1.0), vote(["7", "7", "7"], "b", seconds=2.0),
    vote(["3", "7", "3"], "c", seconds=3.0), vote([None, None, None], "d", seconds=4.0),
]  # fmt: skip

BARS = (1.0, 2.0, float("-inf"), float("nan"))


def test_figures_are_those_counted_by_hand() -> None:
    found = {name: estimate.value for name, estimate in method_figures(VOTED).items()}
    assert found == pytest.approx({
        "accuracy": 2 / 4,
        "confidence": (2 / 3 + 1 + 2 / 3 + 0) / 4,
        "ece": (1 / 4) * 0 + (2 / 4) * abs(2 / 3 - 1 / 2) + (1 / 4) * 0,
        "brier": ((1 / 3) ** 2 + 0 + (2 / 3) ** 2 + 0) / 4,
        "auroc": (0.5 + 1 + 1 + 1) / 4,  # of right (2/3, 1) over wrong (2/3, 0), a tie counts half
        "tokens": 30.0,
        "seconds": 2.5,
        "unparsed": 1 / 4,
        "branches": 3.0,
        "pruned": 0.0,
        "rounds": 1.0,
        "questions": 4.0,
    })  # fmt: skip


def test_pruned_branches_cost_tokens_and_the_threshold_is_told() -> None:
    found = method_figures([tree("a"), tree("b", "3")])
    assert found["tokens"].value == 16 and found["pruned"].value == pytest.approx(1 / 3)
    assert found["threshold"].value == 0.25 and "threshold" not in method_figures(VOTED)
    barred = [
        replace(one, decoded=replace(one.decoded, facts={"bar": bar})) for one, bar in zip(VOTED, BARS, strict=True)
    ]
    assert method_figures(barred)["threshold"].value == 1.5, "of those that have one"


def test_the_width_of_the_confidences_interval_is_a_mean_over_questions_that_tell_it() -> None:
    told = [
        replace(one, decoded=replace(one.decoded, facts={"confidence_width": width}))
        for one, width in zip(VOTED[:3], (0.0, 0.25, 0.5), strict=True)
    ]
    assert method_figures([*told, VOTED[3]])["confidence_width"].value == 0.25
    assert "confidence_width" not in method_figures(VOTED)


def test_a_confidence_without_an_answer_counts_as_none() -> None:
    odd = replace(VOTED[3], decoded=replace(VOTED[3].decoded, confidence=0.9))
    assert method_figures([odd])["confidence"].value == 0


def test_a_difference_is_paired_by_question_and_has_the_sign_of_the_methods_gain() -> None:
    """Two of four questions change: in a's order they cancel, so pairing by place would show a difference of 0 too, and
    a narrower one; shuffling one side changes nothing."""
    other = [vote(["7"], "c"), vote(["7"], "b"), vote(["7"], "a"), vote(["3"], "d")]
    made = measures({"q3": {BASELINE: VOTED, "cat": other}})
    gain = made["decode/q3/cat/equal_budget_gain"]
    assert gain.value == pytest.approx(3 / 4 - 2 / 4)
    again = measures({"q3": {BASELINE: VOTED[::-1], "cat": other}})["decode/q3/cat/equal_budget_gain"]
    assert again == gain and gain.low < gain.value < gain.high
    assert f"decode/q3/{BASELINE}/equal_budget_gain" not in made


@pytest.mark.parametrize(
    ("answer", "own", "equal_budget", "equal_tokens"),
    [
        ("7", 10, 0.0, 1 - 2 / 3),  # as many tokens as one branch: a plain sample is right twice in three
        ("7", 25, 0.0, 1 - (5 / 6 + 1) / 2),  # between two branches (ties go to the first drawn: 2/3 and 1) and three
        ("7", 9, 0.0, None),  # less than one response of the baseline, which has no accuracy there
        ("7", 45, 0.0, None),  # the baseline draws 30 in all: less than one response of the method
        ("3", 10, -1.0, -2 / 3),
    ],
)
def test_equal_tokens_cut_the_dearer_method(
    answer: str, own: int, equal_budget: float, equal_tokens: float | None
) -> None:
    baseline = [vote(["7", "3", "7"], "a"), vote(["7", "7", "3"], "b")]
    method = [vote([answer], "a", own=own), vote([answer], "b", own=own)]
    made = measures({"q3": {BASELINE: baseline, "greedy": method}})
    assert made["decode/q3/greedy/equal_budget_gain"].value == pytest.approx(equal_budget)
    found = made.get("decode/q3/greedy/equal_tokens_gain")
    assert (None if found is None else found.value) == (equal_tokens and pytest.approx(equal_tokens))


def test_a_shorter_response_that_is_right_as_often_gains_nothing() -> None:
    """Both are always right, and a greedy response is a tenth shorter."""
    baseline, short = [vote(["7"] * 3, name) for name in "ab"], [vote(["7"], name, own=9) for name in "ab"]
    made = measures({"q3": {BASELINE: baseline, "greedy": short}})
    assert made["decode/q3/greedy/equal_budget_gain"].value == 0
    assert "decode/q3/greedy/equal_tokens_gain" not in made


def test_methods_with_other_questions_have_no_difference() -> None:
    made = measures({"q3": {BASELINE: VOTED[:3], "cat": VOTED}, "q4": {"cat": VOTED}})
    assert not [name for name in made if name.endswith("_gain")]
    assert measures({"q3": {"cat": []}}) == {}


def test_every_name_is_declared_and_finite_bounds_alone_are_kept() -> None:
    made = measures({"q3": {BASELINE: VOTED, "cat": [tree(name) for name in "abcd"]}})
    assert [name for name in made if find_metric(name) is None] == []
    values, bounds = metrics_and_intervals(made)
    assert values["decode/q3/cat/accuracy"] == 1.0 and set(values) == set(made)
    assert all(math.isfinite(low) and math.isfinite(high) for low, high in bounds.values())
    assert "decode/q3/cat/accuracy" in bounds and "decode/q3/cat/seconds" not in bounds
