"""The distributions that a decision's cross-entropy is taken toward, by hand. K = 4."""

from __future__ import annotations

import pytest

from carerl.decisions import CLAMPS, TARGETS, bound

THIRD = 1 / 3


@pytest.mark.parametrize(
    ("target", "chosen", "right", "expected"),
    [
        ("paper", 1, {1}, (0, 1, 0, 0)),
        ("paper", 1, {0, 1}, (0, 1, 0, 0)),  # the decision, also where another one is right too
        ("paper", 1, {2}, (0.25, 0.25, 0.25, 0.25)),
        ("rest", 1, {1}, (0, 1, 0, 0)),
        ("rest", 1, {2}, (THIRD, 0, THIRD, THIRD)),
        ("gold", 1, {2}, (0, 0, 1, 0)),
        ("gold", 1, {1}, (0, 1, 0, 0)),
        ("gold", 1, {0, 3}, (0.5, 0, 0, 0.5)),
        ("paper", 1, set(), (0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_targets(target, chosen, right, expected) -> None:
    found = TARGETS[target](chosen, right, 4).probabilities
    assert found == pytest.approx(expected) and sum(found) == pytest.approx(1)


def test_gold_without_a_right_option_is_refused() -> None:
    with pytest.raises(ValueError, match="right option"):
        TARGETS["gold"](1, set(), 4)


@pytest.mark.parametrize("target", ["paper", "rest"])
def test_the_bound_is_on_the_terms_that_the_clamp_names(target) -> None:
    right, wrong = TARGETS[target](1, {1}, 4), TARGETS[target](1, {2}, 4)
    found = {clamp: (bound(right, clamp), bound(wrong, clamp)) for clamp in CLAMPS}
    assert found == {"uniform": (-1.0, 0.25), "both": (0.25, 0.25), "off": (-1.0, -1.0)}
    assert all(bound(TARGETS["gold"](1, {2}, 4), clamp) == -1.0 for clamp in CLAMPS)
    with pytest.raises(ValueError, match="clamp = on"):
        bound(right, "on")
