"""Isotonic regression: by hand, against scikit-learn, its invariances, and what it mends that no temperature can."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn.isotonic import IsotonicRegression

from carerl.calibration import Isotonic, auroc, brier, ece, fit_isotonic, fit_temperature, nll, scale_confidence
from tests.calibration.random_inputs import random_input
from tests.calibration.worlds import World

INPUTS = [(c[c > 0], y[c > 0]) for _, c, y in (random_input(seed) for seed in range(200)) if (c > 0).any()]
VALIDATION, TEST = ["validation/0"], ["test/0"]


def fitted(c, y) -> Isotonic:
    return fit_isotonic(c, y, VALIDATION)


def test_by_hand():
    """At .4 one of two is right, and at .6 none of one: the two places are pooled to 1/3, where unweighted they would
    be 1/4. Between .2 and .4 the value rises from 0 to 1/3."""
    found = fitted([0.4, 0.8, 0.2, 0.6, 0.4], [1, 1, 0, 0, 0])
    assert found.confidences == (0.2, 0.4, 0.6, 0.8) and found.levels == 3
    assert found.values == pytest.approx([0, 1 / 3, 1 / 3, 1])
    assert found.apply([0.1, 0.3, 0.5, 0.7, 0.9], TEST) == pytest.approx([0, 1 / 6, 1 / 3, 2 / 3, 1])
    assert found.brier_before == pytest.approx((0.36 + 0.04 + 0.04 + 0.36 + 0.16) / 5)
    assert found.brier_after == pytest.approx((4 / 9 + 1 / 9 + 1 / 9) / 5)


@pytest.mark.parametrize("weighted", [False, True])
def test_against_scikit_learn(weighted):
    """``weighted``: scikit-learn is given each confidence once, its mean correctness, and its count as weight; ours are
    given the items. Half of the inputs have correctness between 0 and 1."""
    tied = 0
    for number, (c, y) in enumerate(INPUTS):
        if number % 2:
            y = np.random.default_rng(number).random(len(y))
        theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        places, item, counts = np.unique(c, return_inverse=True, return_counts=True)
        if weighted:
            theirs.fit(places, np.bincount(item, y) / counts, sample_weight=counts)
        else:
            theirs.fit(c, y)
        asked = np.concatenate([c, np.linspace(0.001, 1, 50)])
        assert fitted(c, y).apply(asked, TEST) == pytest.approx(theirs.predict(asked), abs=1e-9)
        tied += len(places) < len(c)
    assert tied > 60


def test_only_order_and_shares_matter():
    """Neither the order of the items, nor how often all are repeated, nor a strictly increasing change of the
    confidences moves a value. Correctness .25 is one right item of four."""
    rng = np.random.default_rng(3)
    for c, y in INPUTS[:100]:
        plain = fitted(c, y)
        order = rng.permutation(len(c))
        for other in (fitted(c[order], y[order]), fitted(np.tile(c, 3), np.tile(y, 3)), fitted(c**3 / 2, y)):
            assert other.values == pytest.approx(plain.values)
    c, y = np.array([0.3, 0.3, 0.5, 0.7]), np.array([0.75, 1.0, 0.25, 0.5])
    each = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=float)
    assert fitted(np.repeat(c, 4), each.ravel()).values == pytest.approx(fitted(c, y).values)


def test_on_its_own_split_it_is_calibrated_and_beats_every_temperature_in_brier_and_nll():
    """A temperature is one nondecreasing map of many, and isotonic regression is the best of all in both scores."""
    for c, y in INPUTS:
        found = fitted(c, y)
        after = np.interp(c, found.confidences, found.values)
        assert ece(after, y, scheme="unique") == pytest.approx(0, abs=1e-9)
        assert found.brier_after == pytest.approx(brier(after, y))
        for temperature in (0.3, 1.0, 1.7, 20.0):
            scaled = scale_confidence(c, temperature, 1e-12)
            assert brier(after, y) <= brier(scaled, y) + 1e-12
            assert nll(after, y, 1e-12) <= nll(scaled, y, 1e-12) + 1e-9


def test_it_reverses_no_pair_but_makes_some_equal_so_that_auroc_can_change_either_way():
    for c, y in INPUTS[:200]:
        after = fitted(c, y).apply(c, TEST)
        assert (np.diff(after[np.argsort(c)]) >= 0).all()
    found = fitted([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1])  # pools .4 and .6
    c = [0.1, 0.45, 0.55, 0.9]
    rising, falling = [0, 1, 0, 1], [0, 0, 1, 1]
    assert (auroc(c, rising), auroc(found.apply(c, TEST), rising)) == (0.75, 0.875)
    assert (auroc(c, falling), auroc(found.apply(c, TEST), falling)) == (1.0, 0.875)


def test_it_mends_what_no_temperature_can():
    """Right with .6, above a confidence of .7 with .7, above .95 with .95. A temperature keeps every confidence below
    1/2 there. On other questions the best of all temperatures leaves an ECE of .12 and more; isotonic regression fitted
    on 400 leaves less than half of that on average, and less than any temperature each time."""

    def draw(seed, n):
        rng = np.random.default_rng(seed)
        c = rng.uniform(0.02, 1, n)
        return c, (rng.random(n) < np.select([c > 0.95, c > 0.7], [0.95, 0.7], 0.6)).astype(float)

    c, y = draw(0, 20_000)
    grid = np.exp(np.linspace(np.log(1 / 20), np.log(20), 100))
    assert min(ece(scale_confidence(c, t), y) for t in grid) > 0.12
    left = []
    for seed in range(1, 6):
        validation, right = draw(seed, 400)
        left.append(ece(fitted(validation, right).apply(c, TEST), y))
        temperature = fit_temperature(validation, right, VALIDATION)
        assert ece(temperature.apply(c, TEST), y) > 0.12 > left[-1]
    assert np.mean(left) < 0.06


def test_it_costs_a_calibrated_model_little_and_less_with_more_questions():
    """The mean over ten validation splits of the ECE on others: under .04 with 500 questions, above that with 50."""
    world = World((5, 2))
    c, y, _ = world.draw(np.random.default_rng(0), 20_000)
    assert ece(c, y) < 0.01
    costs = {}
    for count in (50, 500):
        draws = [world.draw(np.random.default_rng([seed, count]), count) for seed in range(10)]
        costs[count] = np.mean([ece(fitted(v, r).apply(c, TEST), y) for v, r, _ in draws])
    assert costs[500] < 0.04 < costs[50]


def test_no_answer_stays_none_and_is_not_fitted_on():
    """At .3 all are right: without its rule, silence would become that."""
    c, y = [0.3, 0.3, 0.6], [1.0, 1.0, 1.0]
    plain, silent = fitted(c, y), fitted([*c, *[0.0] * 9], [*y, *[0.0] * 9])
    assert (silent.values, silent.brier_before) == (plain.values, plain.brier_before) == ((1, 1), plain.brier_before)
    assert silent.apply([0.0, 1e-9, 0.3], TEST).tolist() == [0, 1, 1]


def test_it_is_never_applied_to_the_questions_it_was_fitted_on():
    found = fit_isotonic([0.6, 0.9], [1, 0], ["a", "b"])
    with pytest.raises(ValueError, match=r"1 of the questions were fitted on \(b"):
        found.apply([0.5, 0.5], ["c", "b"])
    assert found.apply([0.5, 0.5], ["c", "d"]).tolist() == [0.5, 0.5]


def test_one_confidence_has_one_value():
    found = fitted([0.9] * 3, [1, 0, 0])
    assert found.levels == 1 and found.apply([0.1, 0.9, 1.0], TEST) == pytest.approx([1 / 3] * 3)


def test_probabilities_that_a_logit_cannot_tell_apart_keep_their_places():
    """Decisions after RLVR: most probabilities above .999, where a temperature's clip makes them equal."""
    c = special.expit(np.linspace(5, 12, 200))
    y = (np.arange(200) >= 100).astype(float)
    assert (c > 0.999).sum() > 100
    assert fitted(c, y).apply(c, TEST).tolist() == y.tolist()
    assert auroc(scale_confidence(c, 3.0), y) < 1 == auroc(c, y)


@pytest.mark.parametrize("arguments", [([], [], ["q"]), ([0.5], [1], []), ([1.5], [1], ["q"]), ([0.0], [0], ["q"])])
def test_bad_input_is_refused(arguments):
    with pytest.raises(ValueError):
        fit_isotonic(*arguments)
    with pytest.raises(ValueError):
        fitted([0.5], [1]).apply([1.5], TEST)
