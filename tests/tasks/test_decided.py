"""Decisions of samples as arrays, and their histogram, by hand.

Not covered: who sets decisions and probabilities (controller/test_decisions)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from carerl.tasks.decided import BINS, decided, histogram
from carerl.types import Decision, Example, Group, Outcome, Sample


def sample(chosen: str, probs: tuple[float, ...] | None, right: tuple[str, ...] = ("A",), **more: Any) -> Sample:
    decision = Decision(0, chosen, {label: 65 + k for k, label in enumerate("ABC")}, right)
    return Sample("q", (65,), (-0.1,), False, (0, 0), Outcome.WRONG, chosen, decision=decision, option_probs=probs)


def test_a_decision_and_the_likeliest_option_have_their_own_probability_and_their_own_right() -> None:
    undecided = Sample("q", (65,), (-0.1,), False, (0, 0), Outcome.CORRECT, "A")
    first = Group(Example("q1", (1,), "A"), [sample("B", (0.5, 0.2, 0.3)), undecided, sample("A", None)])
    second = Group(Example("q2", (1,), "B"), [sample("B", (0.1, 0.7, 0.2), ("B", "C")), sample("C", (0.4, 0.4, 0.2))])
    found = decided([first, second])
    assert found.questions == ("q1", "q2", "q2") and len(found) == 3
    assert found.probability.tolist() == [0.2, 0.7, 0.2]
    assert found.right.tolist() == [0, 1, 0]
    assert found.argmax.tolist() == [0.5, 0.7, 0.4]
    assert found.argmax_right.tolist() == [1, 1, 1], "of two that are equally likely, the first"


def test_a_known_probability_of_being_right_takes_the_place_of_the_gold() -> None:
    known = {("q1", "A"): 0.85, ("q1", "B"): 0.05, ("q2", "C"): 0.3}
    groups = [
        Group(Example("q1", (1,), "A"), [sample("B", (0.5, 0.2, 0.3))]),
        Group(Example("q2", (1,), "A"), [sample("C", (0.1, 0.1, 0.8))]),
    ]
    found = decided(groups, lambda group, label: known[group.example.id, label])
    assert found.right.tolist() == [0.05, 0.3] and found.argmax_right.tolist() == [0.85, 0.3]


def test_nothing_decided_is_no_item() -> None:
    found = decided([Group(Example("q", (1,), "A"), [Sample("q", (), (), True, (0, 0))])])
    assert len(found) == 0 and found.argmax.shape == found.right.shape == (0,)
    assert all(math.isnan(share) for share in histogram(found.probability))


def test_bins_begin_at_their_lower_edge_and_the_last_is_from_99_percent() -> None:
    lower = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99]
    for number, edge in enumerate(lower):
        assert histogram([edge]) == [float(k == number) for k in range(BINS)]
        if number:
            assert histogram([math.nextafter(edge, 0)]).index(1.0) == number - 1
    assert histogram([1.0])[10] == 1
    assert histogram([0.995, 1.0, 0.95, 0.15])[9:] == [0.25, 0.5]
    assert sum(histogram([k / 37 for k in range(38)])) == pytest.approx(1)
