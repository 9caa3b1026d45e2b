"""Do 95 % intervals hold the truth in 95 % of simulated evaluations? Measured, for eight worlds and two sizes.

The slow tests assert it with 2,000 repetitions a cell: within 2 points of 95 % for accuracy, Brier, NLL and AUROC.
There the standard error of a measured coverage is .49 points, so a cell may be off by 2 points plus two of these, and
the mean of a metric over the cells by 1. The default suite takes 100 repetitions at one size, where it is 2.2 points.

Measured coverage in per cent (seed 0, 300 resamples; 2,000 repetitions, but 500 for the debiased ECE, whose
standard error is 1 point). n counts items: ``clusters`` at 200 are 25 questions.

====================  ===  ========  =====  =====  =====  ====
world                 n    accuracy  Brier  NLL    AUROC  ECE
====================  ===  ========  =====  =====  =====  ====
calibrated            200  94.6      95.3   95.1   96.1   –
calibrated            500  95.5      95.3   95.5   94.9   96.0
uniform               200  94.6      94.5   94.8   94.8   –
uniform               500  94.8      95.7   95.7   96.3   98.2
overconfident         200  94.6      95.2   95.7   96.1   –
overconfident         500  95.5      95.8   95.2   94.9   98.2
slightly              200  94.6      95.3   95.0   96.1   –
slightly              500  95.5      95.8   95.4   94.9   96.6
accurate              200  95.8      95.5   95.2   95.0   –
accurate              500  94.5      95.4   94.8   95.2   96.0
votes                 200  94.7      95.0   95.2   94.8   –
votes                 500  94.7      94.9   95.0   94.7   97.8
overconfident votes   200  94.7      95.4   95.2   95.2   –
overconfident votes   500  94.7      95.1   95.0   95.0   98.2
clusters              200  96.2      94.3   93.3   95.5   –
clusters              500  96.0      95.7   93.9   94.4   97.6
====================  ===  ========  =====  =====  =====  ====
"""

from __future__ import annotations

import numpy as np
import pytest

from carerl.calibration import (
    accuracy_at_coverage,
    aurc,
    auroc,
    auroc_interval,
    bootstrap_interval,
    brier,
    brier_scores,
    debiased_ece,
    ece,
    mean_interval,
    nll,
    nll_scores,
    share_interval,
)
from carerl.calibration.measure import vote_clip
from carerl.calibration.ranking import RankedBlocks
from tests.calibration.worlds import WORLDS, World, coverage

RESAMPLES = 300
METRICS = ("accuracy", "brier", "nll", "auroc")


def truth_of(world: World, metric: str) -> float:
    if metric == "ece_debiased":
        return 0.0 if world.calibrated else world.truth(ece)
    if metric == "nll":
        return world.truth(lambda c, y: nll(c, y, vote_clip(world.votes)))
    functions = {
        "accuracy": lambda c, y: float(y.mean()),
        "brier": brier,
        "auroc": auroc,
        "aurc": aurc,
        "accuracy_at_80": lambda c, y: accuracy_at_coverage(c, y, 0.8),
    }
    return world.truth(functions[metric])


def interval_of(world: World, metric: str, resamples: int = RESAMPLES):
    def interval(c, y, questions, seed):
        if metric == "accuracy":
            found = share_interval(y, questions)
        elif metric == "brier":
            found = mean_interval(brier_scores(c, y), questions, repeats=resamples, seed=seed)
        elif metric == "nll":
            scores = nll_scores(c, y, vote_clip(world.votes))
            found = mean_interval(scores, questions, repeats=resamples, seed=seed)
        elif metric == "auroc":
            found = auroc_interval(c, y, questions)
        elif metric == "ece_debiased":
            found = debiased_ece(c, y, questions, seed=seed)
        else:
            blocks = RankedBlocks(c, y)
            if metric == "aurc":
                statistic, value = blocks.aurc, aurc(c, y)
            else:
                statistic = lambda w: blocks.accuracy_at_coverage(w, 0.8)  # noqa: E731
                value = accuracy_at_coverage(c, y, 0.8)
            found = bootstrap_interval(statistic, value, questions, len(c), repeats=resamples, seed=seed)
        return found.low, found.high

    return interval


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["overconfident", "votes", "clusters"])
def test_intervals_cover(name, metric):
    """93 % is what is asked for; three standard errors of 100 repetitions below it are 85. Too wide an interval is left
    to the slow test."""
    world = WORLDS[name]
    assert coverage(world, interval_of(world, metric, 200), truth_of(world, metric), 400, 100) >= 0.85


@pytest.mark.parametrize("name", ["calibrated", "slightly", "votes"])
def test_the_interval_of_the_debiased_ece_covers(name):
    world = WORLDS[name]
    assert coverage(world, interval_of(world, "ece_debiased"), truth_of(world, "ece_debiased"), 400, 100) >= 0.85


def percentile(c, y, questions, seed):
    index = np.minimum((c * 10).astype(int), 9)
    gaps = np.zeros((len(c), 10))
    gaps[np.arange(len(c)), index] = y - c
    found = bootstrap_interval(
        lambda w: np.abs(w @ gaps).sum(axis=1) / w.sum(axis=1),
        ece(c, y),
        questions,
        len(c),
        repeats=200,
        seed=seed,
        method="percentile",
    )
    return found.low, found.high


def test_a_percentile_bootstrap_never_covers_the_ece_of_a_calibrated_model():
    """The fact that the debiased estimate exists for: 0 of 100 at n = 500, where the truth is 0."""
    assert coverage(WORLDS["calibrated"], percentile, 0.0, 500, 100) == 0.0


def test_the_debiased_ece_has_less_bias_than_the_plug_in():
    """Calibrated, the truth is 0: 59 % of the plug-in's bias is left. Overconfident by half: next to nothing."""
    for name, left in (("calibrated", (0.5, 0.68)), ("overconfident", (-0.6, 0.6))):
        world = WORLDS[name]
        truth = truth_of(world, "ece_debiased")
        rng = np.random.default_rng(5)
        plain, debiased = [], []
        for _ in range(150):
            c, y, _ = world.draw(rng, 500)
            plain.append(ece(c, y))
            debiased.append(debiased_ece(c, y).value)
        assert np.mean(plain) - truth > 0.003
        assert left[0] < (np.mean(debiased) - truth) / (np.mean(plain) - truth) < left[1]


def test_ignoring_questions_would_not_cover():
    """The test above can fail: as independent samples, 8 of a question give an interval that is too narrow."""
    world = World((2, 1), samples=8)
    truth = truth_of(world, "accuracy")

    def naive(c, y, questions, seed):
        found = share_interval(y)
        return found.low, found.high

    assert coverage(world, naive, truth, 400, 300) < 0.85
    assert coverage(world, interval_of(world, "accuracy"), truth, 400, 300) > 0.91


def measured(metric):
    """Coverage by world and size, printed for the table above."""
    found = {
        (name, n): coverage(world, interval_of(world, metric), truth, n, 2000)
        for name, world in WORLDS.items()
        for truth in [truth_of(world, metric)]
        for n in (200, 500)
    }
    print(metric, {key: round(100 * value, 1) for key, value in found.items()})
    return found


@pytest.mark.simulation
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("metric", METRICS)
def test_coverage_is_within_two_points(metric):
    found = measured(metric)
    assert abs(np.mean(list(found.values())) - 0.95) <= 0.01
    assert all(0.92 <= value <= 0.98 for value in found.values()), found


@pytest.mark.simulation
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("metric", ["ece_debiased", "aurc", "accuracy_at_80"])
def test_coverage_of_the_rest(metric):
    """No target: what was measured is in the table. The ECE's interval may be wide, not narrow."""
    found = measured(metric)
    assert all(value >= (0.93 if metric == "ece_debiased" else 0.90) for value in found.values()), found
