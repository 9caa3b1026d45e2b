"""The world's names, distributions and arithmetic, against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.world import (
    ABSTAIN,
    SLOPPY_RESULT,
    TOP_PROBABILITIES,
    TRUE_RESULT,
    draw_questions,
    fact_distribution,
    make_world,
    name_prompt,
    question_prompt,
    solve,
    stream,
)


def names(array_N3: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(row) for row in array_N3.tolist()}


def test_names_are_disjoint_and_exhaust_all_three_letter_names() -> None:
    world = make_world(100)
    parts = [names(world.entities_E3), names(world.heldout_H3), names(world.pool_M3)]
    assert [len(part) for part in parts] == [150, 400, 26**3 - 550]
    assert len(set.union(*parts)) == 26**3


def test_world_is_a_function_of_its_seed() -> None:
    one, same, other = make_world(100), make_world(100), make_world(101)
    assert np.array_equal(one.entities_E3, same.entities_E3)
    assert np.array_equal(one.answers_EV, same.answers_EV)
    assert names(one.entities_E3) != names(other.entities_E3)
    assert not np.array_equal(one.answers_EV, other.answers_EV)


def test_streams_of_different_purpose_or_step_differ() -> None:
    draws = {tuple(stream(*key).integers(0, 1000, 4)) for key in [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0)]}
    assert len(draws) == 4
    with pytest.raises(ValueError):
        stream(-1, 0)


def test_fact_distribution_by_hand() -> None:
    # top .9: second min(.06, .63) = .06, the other two share .04
    assert fact_distribution(0.9, np.array([3, 1, 4, 0]))[[3, 1, 4, 0, ABSTAIN]] == pytest.approx(
        [0.855, 0.057, 0.019, 0.019, 0.05]
    )
    # top .3: second min(.42, .21) = .21, the other two share .49
    assert fact_distribution(0.3, np.array([3, 1, 4, 0]))[[3, 1, 4, 0, ABSTAIN]] == pytest.approx(
        [0.285, 0.1995, 0.23275, 0.23275, 0.05]
    )


def test_every_entity_has_a_distribution_with_four_digits_and_its_top() -> None:
    world = make_world(7)
    assert world.answers_EV.sum(axis=1) == pytest.approx(np.ones(150))
    assert ((world.answers_EV[:, :ABSTAIN] > 0).sum(axis=1) == 4).all()
    assert (world.answers_EV[:, ABSTAIN] == 0.05).all()
    tops = Counter(np.round(world.truth_EV.max(axis=1), 6).tolist())
    assert set(tops) == set(TOP_PROBABILITIES)
    assert max(tops.values()) - min(tops.values()) <= 1  # dealt out evenly: 150 = 7 * 21 + 3


def test_operator_tables_by_brute_force() -> None:
    for index, symbol in enumerate(tk.OPERATORS):
        value = int(symbol[1:])
        for digit in range(10):
            true = digit * value if symbol.startswith("*") else digit + value
            assert TRUE_RESULT[index, digit] == true % 10
            assert SLOPPY_RESULT[index, digit] == (digit + value) % 10


def test_questions_are_solved_left_to_right() -> None:
    # 7 + 5 = 12 -> 2, * 4 = 8, + 9 = 17 -> 7: no precedence of *
    operators = np.array([[tk.OPERATORS.index(o) for o in ("+5", "*4", "+9")]])
    assert solve(np.array([7]), operators).tolist() == [[2, 8, 7]]
    assert tk.decode(question_prompt(7, operators[0])) == "Q 7 +5 *4 +9 ="
    assert tk.decode(name_prompt(np.array([0, 25, 2]))) == "F a z c ="


def test_questions_have_the_stated_shares() -> None:
    n = 60_000
    starts, operators = draw_questions(stream(3, 2), n, 3, 0.25)
    times = operators >= 9
    # four standard errors of a share of n * 3 draws
    assert abs(times.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / (3 * n))
    shares = np.bincount(operators.ravel(), minlength=17) / operators.size
    expected = np.array([0.75 / 9] * 9 + [0.25 / 8] * 8)
    assert np.abs(shares - expected).max() < 4.5 * np.sqrt(0.09 / (3 * n))
    assert np.abs(np.bincount(starts, minlength=10) / n - 0.1).max() < 4.5 * np.sqrt(0.09 / n)
