"""The two floors of ECE against exact expectations over all labels and all votes."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest

from carerl.calibration import AnswerTable, ece, labels_floor, observed_answers, votes_floor


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("scheme", ["width", "count", "unique"])
def test_labels_floor_is_the_expectation_over_all_labels(scheme):
    c = np.array([0.12, 0.3, 0.34, 0.34, 0.9, 1.0])
    exact = sum(
        float(np.prod(np.where(y, c, 1 - c))) * ece(c, y, 4, scheme) for y in map(np.array, product([0, 1], repeat=6))
    )
    floor = labels_floor(c, rng(), repeats=40_000, bins=4, scheme=scheme)
    assert floor.mean == pytest.approx(exact, abs=5 * floor.values.std() / 200)


def test_items_with_one_label_are_right_together():
    """Sixteen samples with one answer at .5: the ECE is .5 for certain; with labels of their own about .1."""
    c = np.full(16, 0.5)
    together = labels_floor(c, rng(), groups=np.zeros(16))
    assert together.values.tolist() == [0.5] * 200
    assert labels_floor(c, rng()).mean < 0.15


def exact_votes(p, votes, bins):
    """Two questions with answers right or wrong with their own probability: expected ECE over all counts and ties."""
    cases = []
    for q in p:
        found = []
        for k in range(votes + 1):
            weight = comb(votes, k) * q**k * (1 - q) ** (votes - k)
            share = max(k, votes - k) / votes
            winners = [q] if 2 * k > votes else [1 - q] if 2 * k < votes else [q, 1 - q]
            found += [(weight / len(winners), share, w) for w in winners]
        cases.append(found)
    return sum(
        float(np.prod([w for w, _, _ in case])) * ece([s for _, s, _ in case], [r for _, _, r in case], bins)
        for case in product(*cases)
    )


@pytest.mark.parametrize("votes", [1, 3, 4])
def test_votes_floor_is_the_binomial_expectation(votes):
    p = [0.7, 0.55]
    answers = np.array([[q, 1 - q] for q in p])
    floor = votes_floor(AnswerTable(answers, answers), votes, rng(), repeats=5000, bins=5)
    assert floor.mean == pytest.approx(exact_votes(p, votes, 5), abs=4 * floor.values.std() / 5000**0.5)


def test_drawn_labels_have_the_noise_of_labels_too():
    """One question, one sure answer that is right with .6: the ECE is .4 as a probability, .4 or 1 as a label."""
    table = AnswerTable(np.array([[1.0]]), np.array([[0.6]]))
    assert votes_floor(table, 4, rng(), 50).values == pytest.approx(0.4)
    drawn = votes_floor(table, 4, rng(), 4000, draw_labels=True)
    assert set(np.round(drawn.values, 9)) == {0.0, 1.0} and drawn.mean == pytest.approx(0.4, abs=0.04)


def test_no_answer_counts_in_n_and_never_wins():
    table = AnswerTable(np.array([[0.75, 0.25]]), np.array([[0.0, 1.0]]), never_wins=(0,))
    values = votes_floor(table, 4, rng(), 5000).values
    expected = sum(comb(4, k) * 0.25**k * 0.75 ** (4 - k) * (1 - k / 4) for k in range(1, 5))  # k = 0: 0, wrong, fine
    assert values.mean() == pytest.approx(expected, abs=0.02)


def test_observed_answers():
    table = observed_answers([["7", "7", "3", None], [None, None], ["1"]])
    assert table.answers_QV.tolist() == [[0.25, 0.5, 0.25], [1, 0, 0], [0, 1, 0]]
    assert table.right_QV.tolist() == [[0, 0.5, 0.25], [0, 0, 0], [0, 1, 0]] and table.never_wins == (0,)
    assert votes_floor(table, 4, rng(), 20).mean < 0.5, "the silent question is wrong at confidence 0"
    with pytest.raises(ValueError, match="question 1"):
        observed_answers([["1"], []])


def test_floors_are_functions_of_their_arguments_and_do_not_depend_on_chunks(monkeypatch):
    c = rng(3).random(50)
    table = AnswerTable(np.full((50, 2), 0.5), np.full((50, 2), 0.5))
    whole = labels_floor(c, rng(), 40).values, votes_floor(table, 4, rng(), 40).mean
    assert np.array_equal(whole[0], labels_floor(c, rng(), 40).values)
    monkeypatch.setattr("carerl.calibration.floors._CELLS", 500)
    assert np.array_equal(whole[0], labels_floor(c, rng(), 40).values)
    assert votes_floor(table, 4, rng(), 40).mean == pytest.approx(whole[1], rel=0.3)


def test_range_and_nothing():
    floor = labels_floor(rng().random(100), rng(), 1000)
    low, high = floor.range(0.9)
    assert 0.88 < np.mean((floor.values >= low) & (floor.values <= high)) < 0.92 and low < floor.mean < high
    empty = labels_floor([], rng())
    assert np.isnan(empty.mean) and np.isnan(empty.range()).all()
    assert np.isnan(votes_floor(AnswerTable(np.empty((0, 2)), np.empty((0, 2))), 4, rng()).mean)


@pytest.mark.parametrize(("votes", "scheme", "word"), [(0, "width", "votes"), (4, "count", "scheme")])
def test_votes_floor_refuses(votes, scheme, word):
    with pytest.raises(ValueError, match=word):
        votes_floor(AnswerTable(np.ones((1, 1)), np.ones((1, 1))), votes, rng(), scheme=scheme)
    with pytest.raises(ValueError, match="one table"):
        AnswerTable(np.ones((2, 2)), np.ones((2, 3)))
