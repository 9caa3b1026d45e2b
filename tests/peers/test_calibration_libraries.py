"""ECE, maximum and average calibration error, AUROC on 1,000 random inputs against netcal and torchmetrics, called as
they are. What differs by convention is a ``test_departure_…``. Not covered, since neither has them: the equal-count
error with ties kept together (``tests/calibration``), the debiased estimates, AURC."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from carerl.calibration import auroc, ece, mce
from tests.calibration.random_inputs import random_input
from tests.peers.agreement import LARGEST

pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]

INPUTS = [random_input(seed) for seed in range(1000)]
BINS = 10


def close(what: str, ours: float, theirs: float) -> None:
    """Absolute: errors of 0 occur."""
    LARGEST[what] = max(abs(ours - theirs), LARGEST.get(what, 0.0))
    assert ours == pytest.approx(theirs, abs=1e-9), what


def on_inner_edges(c: np.ndarray) -> bool:
    """Their edges are ``linspace(0, 1, 11)``, where 3/10 is .30000000000000004 and 7/10 .7000000000000001, so that the
    float .3 lies below its own edge; ours compare with k/10 rounded once, so that it lies on it. In these inputs only
    confidences that are tenths can tell (1/2 is the same number in both)."""
    tenths = np.linspace(0, 1, BINS + 1)
    return any(edge != k / BINS and bool(np.any(c == k / BINS)) for k, edge in enumerate(tenths))


@pytest.mark.parametrize("name", ["ECE", "MCE"])
def test_netcal(netcal, name):
    """netcal clips to [eps, 1 − eps], which is below the tolerance."""
    theirs = getattr(netcal, name)(BINS)
    ours = {"ECE": ece, "MCE": mce}[name]
    compared = 0
    for _, c, y in INPUTS:
        if on_inner_edges(c):
            continue
        close(f"netcal {name}", ours(c, y, BINS), theirs.measure(c, y.astype(int)))
        compared += 1
    assert compared >= 800


def test_netcal_equal_counts_where_its_quantiles_fall_between_items(netcal):
    """It takes ``numpy.quantile`` as edges, ours the items at whole shares of the count. With untied confidences, and
    10 dividing n, both put n/10 items into each bin."""
    theirs, compared = netcal.ECE(BINS, equal_intervals=False), 0
    for kind, c, y in INPUTS:
        if kind == "smooth" and len(c) % BINS == 0:
            close("netcal ECE, equal counts", ece(c, y, BINS, "count"), theirs.measure(c, y.astype(int)))
            compared += 1
    assert compared > 30


@pytest.mark.parametrize(("norm", "ours"), [("l1", ece), ("max", mce)], ids=["ece", "mce"])
def test_torchmetrics(torchmetrics, norm, ours):
    """Without confidences of exactly 1, for which see the departure. AUROC: one class is 0 there and NaN here."""
    compared = 0
    for _, c, y in INPUTS:
        if on_inner_edges(c) or np.any(c == 1):
            continue
        found = torchmetrics.binary_calibration_error(torch.tensor(c), torch.tensor(y.astype(int)), BINS, norm)
        close(f"torchmetrics {norm}", ours(c, y, BINS), float(found))
        compared += 1
    assert compared >= 500


def test_torchmetrics_auroc(torchmetrics):
    compared = 0
    for _, c, y in INPUTS:
        if len(set(y)) == 2:
            found = torchmetrics.binary_auroc(torch.tensor(c), torch.tensor(y.astype(int)))
            # it integrates in float32
            assert auroc(c, y) == pytest.approx(float(found), abs=1e-5)
            compared += 1
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert float(torchmetrics.binary_auroc(torch.tensor(c), torch.tensor(y.astype(int)))) == 0.0
            assert np.isnan(auroc(c, y))
    assert compared > 500


def test_departure_torchmetrics_gives_confidence_1_a_bin_of_its_own(torchmetrics):
    """.95 right and 1 wrong: here one bin, |.5 − .975|; there two, (.05 + 1)/2. Unanimous votes are common, and an
    eleventh bin of ten would be theirs alone."""
    c, y = np.array([0.95, 1.0]), np.array([1, 0])
    found = float(torchmetrics.binary_calibration_error(torch.tensor(c), torch.tensor(y), BINS))
    assert found == pytest.approx((0.05 + 1) / 2) and ece(c, y, BINS) == pytest.approx(0.475)


def test_departure_a_confidence_of_three_tenths(netcal, torchmetrics):
    """.25 right and .3 wrong: here .3 opens a bin, (.75 + .3)/2; there it falls into .25's, |.5 − .275|."""
    c, y = np.array([0.25, 0.3]), np.array([1, 0])
    assert ece(c, y, BINS) == pytest.approx((0.75 + 0.3) / 2)
    assert netcal.ECE(BINS).measure(c, y) == pytest.approx(0.225)
    assert float(torchmetrics.binary_calibration_error(torch.tensor(c), torch.tensor(y), BINS)) in (
        pytest.approx(0.225),
        pytest.approx(0.525),  # torch's linspace rounds by version
    )
