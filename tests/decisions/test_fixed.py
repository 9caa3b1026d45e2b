"""Where training with each target comes to rest, by enumeration of decisions and golds.

That the loss itself follows the same pull is in ``tests/loss/test_decided.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from carerl.decisions.fixed import flow, leader

Q = 0.75  # how often the first option is right; the others are so equally often
# K -> the first option's probability under each column: (target, clamp, greedy)
COLUMNS: dict[tuple[str, str, bool], dict[int, float]] = {
    ("paper", "off", False): {2: 0.750, 4: 0.550, 5: 0.484, 10: 0.302},
    ("paper", "uniform", False): {2: 0.833, 4: 0.795, 5: 0.787, 10: 0.769},
    ("paper", "off", True): {2: 0.875, 4: 0.813, 5: 0.800, 10: 0.775},
    ("paper", "uniform", True): {2: 0.875, 4: 0.813, 5: 0.800, 10: 0.775},
    ("paper", "both", False): {2: 0.875, 4: 0.813, 5: 0.800, 10: 0.775},
    ("rest", "off", False): {2: 0.750, 4: 0.550, 5: 0.484, 10: 0.302},
    ("rest", "off", True): {2: 0.750, 4: 0.750, 5: 0.750, 10: 0.750},
    ("rest", "uniform", False): {2: 0.667, 4: 0.727, 5: 0.733, 10: 0.743},
    ("rest", "both", False): {2: 0.750, 4: 0.750, 5: 0.750, 10: 0.750},
    ("gold", "uniform", False): {2: 0.750, 4: 0.750, 5: 0.750, 10: 0.750},
    ("gold", "off", True): {2: 0.750, 4: 0.750, 5: 0.750, 10: 0.750},
}


def golds(options: int, q: float = Q) -> list[float]:
    return [q] + [(1 - q) / (options - 1)] * (options - 1)


def led_by(option: int, options: int) -> list[float]:
    start = [0.4 / (options - 1)] * options
    start[option] = 0.6
    return start


def rest_of(start: Sequence[float], q: Sequence[float], target: str, clamp: str, greedy: bool = False) -> np.ndarray:
    found = flow(start, q, target, clamp, greedy, steps=4000)
    again = flow(found, q, target, clamp, greedy, steps=1000)
    np.testing.assert_allclose(again, found, atol=2e-4, err_msg="it has come to rest")
    return again


@pytest.mark.parametrize(("column", "expected"), COLUMNS.items(), ids=lambda value: str(value)[:30])
def test_training_comes_to_rest_at_the_tables_values(column, expected) -> None:
    """From a start in which the option leads that is right most often. The table has three decimals."""
    target, clamp, greedy = column
    for options, probability in expected.items():
        found = rest_of(led_by(0, options), golds(options), target, clamp, greedy)
        assert found[0] == pytest.approx(probability, abs=1e-3)
        np.testing.assert_allclose(found[1:], (1 - found[0]) / (options - 1), atol=1e-3)


@pytest.mark.parametrize(("clamp", "greedy"), [("both", False), ("uniform", True)])
@pytest.mark.parametrize(("options", "probability"), [(2, 0.375), (4, 0.229), (5, 0.188)])
def test_a_wrong_leader_is_locked_in_by_both_terms_bounded_and_by_greedy_decisions(
    clamp, greedy, options, probability
) -> None:
    """The right option stays below the wrong one: nothing that names it is ever trained."""
    found = rest_of(led_by(1, options), golds(options), "paper", clamp, greedy)
    assert found[0] == pytest.approx(probability, abs=1e-3) and found.argmax() == 1


@pytest.mark.parametrize("options", [2, 4, 5, 10])
def test_with_the_bound_on_wrong_decisions_alone_a_wrong_leader_is_freed(options) -> None:
    found = rest_of(led_by(1, options), golds(options), "paper", "uniform")
    assert found[0] == pytest.approx(COLUMNS["paper", "uniform", False][options], abs=1e-3)


@pytest.mark.parametrize("target", ["paper", "rest"])
def test_without_a_bound_probabilities_go_as_one_over_how_often_each_is_wrong(target) -> None:
    """p_c ∝ 1/(1 − q_c) from any start, for uneven q: .5, .3, .2 rest at 2, 1.4286, 1.25 over their sum."""
    q = np.array([0.5, 0.3, 0.2])
    expected = (1 / (1 - q)) / (1 / (1 - q)).sum()
    np.testing.assert_allclose(expected, [0.4275, 0.3053, 0.2672], atol=1e-4)
    for start in ([0.8, 0.1, 0.1], [0.05, 0.05, 0.9]):
        np.testing.assert_allclose(rest_of(start, q, target, "off"), expected, atol=1e-3)


@pytest.mark.parametrize("greedy", [False, True])
def test_the_gold_target_comes_to_rest_at_the_truth_from_any_start(greedy) -> None:
    q = [0.1, 0.6, 0.3]
    for start in ([0.9, 0.05, 0.05], [0.2, 0.2, 0.6]):
        np.testing.assert_allclose(rest_of(start, q, "gold", "uniform", greedy), q, atol=1e-3)


@pytest.mark.parametrize("clamp", ["off", "uniform", "both"])
@pytest.mark.parametrize("target", ["paper", "rest", "gold"])
def test_the_closed_forms_are_where_the_flow_ends(target, clamp) -> None:
    for options, q in ((3, 0.5), (3, 0.9), (4, 0.65), (10, 0.55), (10, 0.95), (10, 0.3)):
        found = flow(led_by(0, options), golds(options, q), target, clamp, steps=4000)
        assert leader(q, options, target, clamp) == pytest.approx(found[0], abs=1e-3), (options, q)
    assert leader(1.0, 4, target, clamp) == 1.0


@pytest.mark.parametrize(("options", "q"), [(2, 0.6), (3, 0.4), (5, 0.25)])
def test_nothing_that_leads_comes_to_rest_below_one_over_k(options, q) -> None:
    """The formula of ``rest`` with its bound is lower for these, and the flow goes to and fro around 1/K: above it the
    wrong decisions' term pulls down, below it is off."""
    other = (1 - q) / (options - 1)
    assert (q - other) / (1 - other) < 1 / options == leader(q, options, "rest", "uniform")
    found = flow(led_by(0, options), golds(options, q), "rest", "uniform", rate=0.005, steps=40_000)
    assert found[0] == pytest.approx(1 / options, abs=2e-3)


def test_what_has_no_closed_form_is_refused() -> None:
    with pytest.raises(ValueError, match="target = golden"):
        leader(0.75, 4, "golden")
    with pytest.raises(ValueError, match="clamp = neither"):
        leader(0.75, 4, "paper", "neither")
    with pytest.raises(ValueError, match=r"q = 0\.2 is less than 1/4"):
        leader(0.2, 4, "paper", "both")
