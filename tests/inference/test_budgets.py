"""Accuracy over tokens: against means over all orders and subsets, and at equal tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from carerl.inference.base import Branch
from carerl.inference.budgets import (
    Curve,
    _orders,
    curve,
    difference_at_equal_budget,
    difference_at_equal_tokens,
    differences,
)
from carerl.inference.election import elect


def question(*parts: tuple[int, str | None, float, bool]) -> list[Branch]:
    """Branches of (own tokens, answer, weight, pruned)."""
    return [
        Branch((n,), (4,) * own, own, weight=weight, pruned=pruned, answer=answer)
        for n, (own, answer, weight, pruned) in enumerate(parts)
    ]


def random_questions(count: int, size: int, seed: int, pruned: float = 0.0):
    generator = np.random.default_rng(seed)
    questions, right = [], []
    for _ in range(count):
        answers = [None if a == 3 else "abc"[a] for a in generator.integers(0, 4, size)]
        flags = generator.random(size) < pruned
        flags[0] = False
        weights = generator.random(size)
        own = generator.integers(1, 20, size)
        questions.append(question(*zip(own.tolist(), answers, weights.tolist(), flags.tolist(), strict=True)))
        right.append([answer == "a" for answer in answers])
    return questions, right


def test_with_three_branches_the_curve_is_the_mean_over_all_subsets() -> None:
    """Rotations of an order hold every subset of one, two and three of three equally often."""
    questions, right = random_questions(20, 3, 0, pruned=0.3)
    found = curve(questions, right)
    for row, (branches, correct) in enumerate(zip(questions, right, strict=True)):
        for k in (1, 2, 3):
            subsets = list(combinations(range(3), k))
            winners = [(taken, elect([branches[n] for n in taken])[0]) for taken in subsets]
            wins = [winner >= 0 and correct[taken[winner]] for taken, winner in winners]
            assert found.right_QK[row, k] == pytest.approx(np.mean(wins))
            tokens = np.mean([sum(branches[n].own for n in taken) for taken in subsets])
            assert found.tokens_QK[row, k] == pytest.approx(tokens)
    assert (found.tokens_QK[:, 0] == 0).all() and (found.right_QK[:, 0] == 0).all()


@pytest.mark.parametrize("rule", ["vote", "best"])
@pytest.mark.parametrize("size", [2, 10, 13])
def test_the_curve_is_the_mean_of_the_elections_of_each_part_of_each_order(rule: str, size: int) -> None:
    """Totals that are kept as branches come elect as the part does by itself, ties and weightless votes included."""
    questions, right = random_questions(8, size, 11, pruned=0.2)
    coarse = [[replace(b, weight=round(2 * b.weight) / 2) for b in branches] for branches in questions]  # ties and 0s
    right = [[correct and n % 2 == 0 for n, correct in enumerate(row)] for row in right]  # the winner tells, not only a
    orders, found = _orders(size, 0), curve(coarse, right, rule)
    for row, (branches, correct) in enumerate(zip(coarse, right, strict=True)):
        for k in range(1, size + 1):
            parts = [sorted(order[:k]) for order in orders]
            winners = [(part, elect([branches[n] for n in part], rule)[0]) for part in parts]
            wins = [winner >= 0 and correct[part[winner]] for part, winner in winners]
            assert found.right_QK[row, k] == pytest.approx(np.mean(wins), abs=1e-12)


def test_orders_are_bounded_and_every_branch_of_up_to_64_leads_equally_often() -> None:
    for size, count in ((1, 4), (3, 12), (10, 40), (16, 32), (40, 40), (64, 64), (65, 33), (512, 64)):
        orders = _orders(size, 0)
        assert len(orders) == count and all(sorted(order) == list(range(size)) for order in orders)
        leads = Counter(order[0] for order in orders)
        assert size > 64 or (len(leads) == size and len(set(leads.values())) == 1)


def test_in_drawn_order_the_curve_is_that_of_prefixes_and_pruned_branches_cost_tokens() -> None:
    branches = question((5, "a", 1.0, False), (3, None, 1.0, True), (4, "b", 2.0, False))
    found = curve([branches], [[True, False, False]], exchangeable=False)
    assert found.tokens_QK.tolist() == [[0, 5, 8, 12]]
    assert found.right_QK.tolist() == [[0, 1, 1, 0]]


def test_a_question_with_fewer_branches_stays_at_all_it_has() -> None:
    few, many = question((5, "a", 1.0, False)), question(*[(2, "b", 1.0, False)] * 3)
    found = curve([few, many], [[True], [False] * 3])
    assert found.tokens_QK.tolist() == [[0, 5, 5, 5], [0, 2, 4, 6]]
    assert found.tokens_K.tolist() == [0, 3.5, 4.5, 5.5] and found.right_QK[0].tolist() == [0, 1, 1, 1]


def test_between_two_budgets_a_question_has_either_such_that_the_mean_tokens_are_as_many() -> None:
    found = Curve(np.array([[0.0, 4, 10], [0, 2, 4]]), np.array([[0.0, 0.5, 1.0], [0, 0.0, 0.5]]))
    assert found.tokens_K.tolist() == [0, 3, 7]
    assert found.right_at(3).tolist() == [0.5, 0.0]
    assert found.right_at(4).tolist() == pytest.approx([0.625, 0.125])
    assert np.isnan(found.right_at(2.9)).all() and np.isnan(found.right_at(0)).all(), "less than one branch"
    assert found.right_at(3 * (1 - 1e-12)).tolist() == [0.5, 0.0], "but for rounding it is one"
    assert found.right_at(7).tolist() == found.right_at(99).tolist() == [1.0, 0.5]
    flat = Curve(np.array([[0.0, 3, 3, 6]]), np.array([[0.0, 0.2, 0.4, 0.6]]))
    assert flat.right_at(3).tolist() == [0.4], "as many branches as the tokens pay for"


def test_a_method_equals_itself_at_every_budget_and_half_of_itself_at_equal_tokens() -> None:
    questions, right = random_questions(60, 6, 3)
    whole = curve(questions, right)
    for estimate in (
        difference_at_equal_budget(whole, whole),
        difference_at_equal_tokens(whole, whole),
        *[e for _, e in differences(whole, whole)],
    ):
        assert estimate.value == estimate.low == estimate.high == 0
    halved = [branches[:3] for branches in questions]
    half = curve(halved, [row[:3] for row in right], exchangeable=False)
    prefixes = curve(questions, right, exchangeable=False)
    assert difference_at_equal_budget(half, prefixes).value != 0
    assert difference_at_equal_tokens(half, prefixes).value == pytest.approx(0, abs=1e-12)
    assert difference_at_equal_tokens(prefixes, half).value == pytest.approx(0, abs=1e-12)
    assert len(differences(half, prefixes)) == 3 and len(differences(prefixes, half)) == 3


def test_the_interval_is_paired_over_questions() -> None:
    """Two methods whose questions rise and fall together differ by less than either varies."""
    generator = np.random.default_rng(2)
    base_Q = generator.random(200)
    other_Q = np.clip(base_Q + 0.05 + 0.01 * generator.normal(size=200), 0, 1)
    made = [Curve(np.tile([0.0, 10.0], (200, 1)), np.c_[np.zeros(200), right_Q]) for right_Q in (other_Q, base_Q)]
    paired = difference_at_equal_tokens(*made)
    assert paired.low < paired.value < paired.high and paired.high - paired.low < 0.01 and paired.low > 0.03
    ((tokens, alone),) = made[1].points()
    assert tokens == 10 and alone.value == pytest.approx(base_Q.mean()) and alone.high - alone.low > 0.05
    assert paired.p is not None and paired.p < 0.01


def test_what_cannot_be_compared_is_refused() -> None:
    one, two = (curve([question((1, "a", 1.0, False))] * n, [[True]] * n) for n in (1, 2))
    with pytest.raises(ValueError, match="same questions: 1 and 2"):
        difference_at_equal_budget(one, two)
    for questions, right in (([], []), ([[]], [[]])):
        with pytest.raises(ValueError, match="needs questions"):
            curve(questions, right)
    with pytest.raises(ValueError, match="2 verdicts for 1 branches"):
        curve([question((1, "a", 1.0, False))], [[True, False]])
