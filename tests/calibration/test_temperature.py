"""Temperature scaling; its optimum against scikit-learn's logistic regression stands in
``test_against_scikit_learn.py``."""

from __future__ import annotations

import numpy as np
import pytest

from carerl.calibration import auroc, ece, fit_temperature, nll, scale_confidence
from tests.calibration.worlds import World


def test_it_finds_the_sharpness_and_mends_another_split():
    world = World((5, 2), sharpness=3)
    rng = np.random.default_rng(0)
    c, y, _ = world.draw(rng, 4000)
    other, labels, _ = world.draw(rng, 4000)
    found = fit_temperature(c, y, [f"validation/{k}" for k in range(4000)])
    assert found.value == pytest.approx(3, abs=0.4) and found.nll_after < found.nll_before == nll(c, y)
    scaled = found.apply(other, [f"test/{k}" for k in range(4000)])
    assert ece(scaled, labels) < 0.3 * ece(other, labels)
    assert auroc(scaled, labels) == pytest.approx(auroc(np.clip(other, 1e-3, 1 - 1e-3), labels)), "order is kept"


def test_it_is_never_applied_to_the_questions_it_was_fitted_on():
    found = fit_temperature([0.6, 0.9], [1, 0], ["a", "b"])
    with pytest.raises(ValueError, match=r"1 of the questions were fitted on \(b"):
        found.apply([0.5, 0.5], ["c", "b"])
    assert len(found.apply([0.5, 0.5], ["c", "d"])) == 2


def test_the_optimum_is_a_minimum_by_search():
    rng = np.random.default_rng(1)
    c = rng.integers(0, 17, 200) / 16
    y = (rng.random(200) < 0.3 + 0.4 * c).astype(float)
    found = fit_temperature(c, y, ["q"], clip=1 / 32)
    grid = np.exp(np.linspace(np.log(1 / 20), np.log(20), 4001))
    c, y = c[c > 0], y[c > 0]
    losses = [nll(scale_confidence(c, t, 1 / 32), y, 1e-15) for t in grid]
    assert found.value == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
    assert found.nll_after <= min(losses) + 1e-12


def test_bounds_and_what_no_temperature_moves():
    assert fit_temperature([0.9, 0.8], [1, 1], ["q"]).value == pytest.approx(1 / 20), "all right: as sharp as allowed"
    assert fit_temperature([0.9, 0.8], [0, 0], ["q"]).value == pytest.approx(20)
    assert fit_temperature([0.5, 0.5], [1, 0], ["q"]).value == 1.0


def test_scaling_by_hand():
    """sigmoid(log(9)/2) = 3/4; 1 is clipped to 31/32, whose logit log(31) is halved as well."""
    assert scale_confidence([0.9, 0.1, 0.5], 2).tolist() == pytest.approx([0.75, 0.25, 0.5])
    assert scale_confidence([1.0], 2, clip=1 / 32)[0] == pytest.approx(np.sqrt(31) / (1 + np.sqrt(31)))


def test_no_answer_stays_none_and_moves_no_temperature():
    """A share of 0 is silence. It is not made a claim of sigmoid(logit(1/32)/4) = .30, and a split with any number of
    silent questions has the temperature of those that were answered."""
    assert scale_confidence([0.0, 1.0], 4, clip=1 / 32)[0] == 0.0
    c, y = [0.9, 0.9, 0.9, 0.6], [1.0, 0.0, 0.0, 1.0]
    plain = fit_temperature(c, y, ["q"])
    silent = fit_temperature([*c, *[0.0] * 50], [*y, *[0.0] * 50], ["q"])
    assert (silent.value, silent.nll_before, silent.nll_after) == (plain.value, plain.nll_before, plain.nll_after)
    with pytest.raises(ValueError, match="no answers"):
        fit_temperature([0.0, 0.0], [0, 0], ["q"])


def test_a_temperature_at_its_bound_says_so():
    assert fit_temperature([0.9, 0.8], [1, 1], ["q"]).bounded and fit_temperature([0.9, 0.8], [0, 0], ["q"]).bounded
    assert not fit_temperature([0.9, 0.8], [1, 0], ["q"]).bounded


@pytest.mark.parametrize("arguments", [([], [], ["q"]), ([0.5], [1], []), ([1.5], [1], ["q"])])
def test_bad_input_is_refused(arguments):
    with pytest.raises(ValueError):
        fit_temperature(*arguments)
    with pytest.raises(ValueError):
        scale_confidence([0.5], 0.0)
