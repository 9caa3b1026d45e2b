"""From gains to weights: values by hand, and the control that deals them at random."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from carerl.distillation import Gain, response_weights, shuffled, trace_weight


def test_a_response_weighs_its_gain_and_nothing_below_zero_or_unknown() -> None:
    assert response_weights([1.0, 0.25, 0.0, -0.5, None]) == [1.0, 0.25, 0.0, 0.0, 0.0]
    assert response_weights([]) == []


@pytest.mark.parametrize(
    ("gains", "floor", "weight"),
    [
        ([1.0, 1.0], 0.1, 0.1),  # nothing but gain: the least
        ([-1.0, None], 0.1, 1.0),  # none: the whole
        ([1.0, -1.0, None, 0.2], 0.1, 0.1 + 0.9 * 0.7),  # losses do not cancel gains, and unknown ones count
        ([0.5], 0.0, 0.5),
        ([0.5], 1.0, 1.0),  # a floor of 1 is a fixed weight
        ([], 0.1, 1.0),
    ],
)
def test_traces_weigh_the_more_the_less_responses_gain(gains: list[Gain], floor: float, weight: float) -> None:
    assert trace_weight(gains, floor) == pytest.approx(weight)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gain_that_is_no_number_is_refused(bad: float) -> None:
    for weigh in (response_weights, lambda gains: trace_weight(gains, 0.1)):
        with pytest.raises(ValueError, match="finite"):
            weigh([0.5, bad])


def test_the_control_keeps_the_gains_and_loses_whose_they_are() -> None:
    gains: list[Gain] = [None, *(k / 20 for k in range(20)), None]
    dealt = shuffled(gains, 7)
    assert Counter(dealt) == Counter(gains) and dealt != gains and gains[1] == 0.0
    assert shuffled(gains, 7) == dealt != shuffled(gains, 8)
    assert trace_weight(dealt, 0.1) == trace_weight(gains, 0.1), "traces weigh as much as without the control"


def test_the_control_leaves_responses_without_an_answer_out_as_gains_do() -> None:
    gains: list[Gain] = [None, 0.1, None, None, 0.2, 0.3, None]
    for seed in range(200):
        assert [gain is None for gain in shuffled(gains, seed)] == [gain is None for gain in gains]
    assert shuffled([None, None], 1) == [None, None] and shuffled([], 1) == []


def test_every_known_place_gets_every_known_gain_equally_often() -> None:
    seen = Counter(tuple(shuffled([None, 0.0, 0.2, None, 0.3], seed)) for seed in range(6000))
    assert len(seen) == 6 and all(abs(n - 1000) < 5 * math.sqrt(1000 * 5 / 6) for n in seen.values())
