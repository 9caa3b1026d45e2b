"""The progressive gain: values by hand, what changes nothing, and what bounds it."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carerl.distillation import negligible, progressive_gain, total_gain, without_last

SUPPORTS = st.lists(st.floats(-50, 0), min_size=2, max_size=9)


@pytest.mark.parametrize(
    ("supports", "gain"),
    [
        ((-4, -3, -2), 1),
        ((-4, -2, -3), 1 / 3),
        ((-2, -3, -4), -1),
        ((-2, -4, -3), -1 / 3),
        ((-1, -3, -1), 0),
        ((-2.5, -2.5, -2.5), 0),
        ((-2.5,), 0),
        ((), 0),
    ],
)
def test_values_by_hand(supports: tuple[float, ...], gain: float) -> None:
    assert progressive_gain(supports) == pytest.approx(gain, abs=1e-8)


def test_the_total_gain_says_how_much_and_the_progressive_one_how_straight() -> None:
    assert total_gain((-4, -1, -3)) == 1 and total_gain((-3,)) == total_gain(()) == 0
    steady, large = (-4, -3.999, -3.998), (-4, -1, -2)
    assert progressive_gain(steady) > progressive_gain(large) and total_gain(steady) < total_gain(large)


def test_the_last_step_can_be_left_out() -> None:
    """Steps that lead away from an answer which the last one then states."""
    stated = (-2, -3, -4, -0.001)
    assert progressive_gain(stated) > 0 > progressive_gain(without_last(stated)) == pytest.approx(-1)
    assert progressive_gain(without_last((-4, -0.001))) == 0, "a single step is the last one"


@given(SUPPORTS, st.floats(-30, 30))
def test_a_shift_changes_nothing(supports: list[float], shift: float) -> None:
    """A likelier or longer answer raises all supports alike. Rounding: nats of 1e-14 against an eps of 1e-8."""
    assert progressive_gain([s + shift for s in supports]) == pytest.approx(progressive_gain(supports), abs=1e-5)


@given(SUPPORTS, st.floats(1e-3, 1e3))
def test_scale_changes_nothing_but_the_part_of_eps(supports: list[float], scale: float) -> None:
    scaled = progressive_gain([scale * s for s in supports], eps=scale * 1e-3)
    assert scaled == pytest.approx(progressive_gain(supports, eps=1e-3), abs=1e-9)


@given(SUPPORTS)
def test_it_is_bounded_and_backwards_it_is_its_opposite(supports: list[float]) -> None:
    gain = progressive_gain(supports)
    assert -1 <= gain <= 1
    assert progressive_gain(supports[::-1]) == pytest.approx(-gain, abs=1e-12)
    assert gain * total_gain(supports) >= -1e-9, "its sign is that of the total gain"


def test_only_steps_that_all_rise_gain_one() -> None:
    for order in permutations((-4.0, -3.0, -2.0, -0.5)):
        assert (progressive_gain(order) > 0.999) == (list(order) == sorted(order))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_support_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        progressive_gain((-1.0, bad, -2.0))


LEAST = 0.01


def jittered(supports: list[float], seed: int, by: float = 1e-6) -> list[float]:
    """The supports as float32 has them after another cut into micro-batches."""
    drawn = random.Random(seed)
    return [support + drawn.uniform(-by, by) for support in supports]


def test_rounding_of_an_answer_that_is_certain_already_gains_nothing() -> None:
    """Without a least total gain it is anything between -1 and 1, and so a weight that another cut flips."""
    cuts = [jittered([-1e-4] * 4, seed) for seed in range(200)]
    unfiltered = [progressive_gain(supports) for supports in cuts]
    assert min(unfiltered) < -0.9 and max(unfiltered) > 0.9
    assert {progressive_gain(supports, least=LEAST) for supports in cuts} == {0.0}


@given(SUPPORTS.filter(lambda own: abs(abs(total_gain(own)) - LEAST) > 1e-5), st.integers(0, 2**31))
def test_another_cut_flips_no_weight(supports: list[float], seed: int) -> None:
    """A rounding of r nats moves the gain by no more than 2 n r over the way, which is as long as the least total."""
    before, after = (progressive_gain(own, least=LEAST) for own in (supports, jittered(supports, seed)))
    assert after == pytest.approx(before, abs=4 * (len(supports) - 1) * 1e-6 / LEAST)


@pytest.mark.parametrize(
    ("supports", "gain"),
    [
        ((-4, -3.992), 0),  # straight, and too little
        ((-4, -4.008), 0),
        ((-4, -3, -3.995), 0),  # a long way there and back
        ((-4, -3.98), 1),
        ((-4, -4.02), -1),
        ((-4, -2, -3), 1 / 3),
        ((-2.5,), 0),
        ((), 0),
    ],
)
def test_the_least_total_gain_counts_up_and_down(supports: tuple[float, ...], gain: float) -> None:
    assert progressive_gain(supports, least=LEAST) == pytest.approx(gain, abs=1e-5)
    assert negligible(supports, LEAST) == (gain == 0) and not negligible(supports, 0.0)
