"""The histogram of coefficients against numpy's, and what it shows of regularizers."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from carerl.loss.batching import Normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective
from carerl.loss.strata import COEFFICIENT_BINS, EDGES, in_bins
from carerl.loss.streams import FlatStreams
from carerl.regularizers import REGULARIZERS


def histogram(regularizer: str, gaps_N: torch.Tensor, weights_N: torch.Tensor | None = None) -> list[float]:
    """Shares by bin as an objective reports them, for tokens with these log-ratios of policy to reference."""
    entry = REGULARIZERS[regularizer]
    objective = Objective(None, entry.build(entry.config()), 1.0, "score")
    lr_N = torch.full_like(gaps_N, -20.0)
    stats = TokenStatistics((lr_N + gaps_N).requires_grad_(), torch.zeros_like(gaps_N))
    weights_N = torch.ones_like(gaps_N) if weights_N is None else weights_N
    streams = FlatStreams(ref_logprobs_N=lr_N, regularizer_weight_N=weights_N)
    sums = objective(stats, streams, Normalisers(1, len(gaps_N), 1)).sums
    shares = [sums[f"regularizer/coefficient_bin_{name}"] for name in COEFFICIENT_BINS]
    return [total / count for total, count in shares]


def test_shares_are_those_of_numpys_histogram() -> None:
    """Reverse KL's coefficient is the log-ratio itself."""
    gaps_N = 2 * torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, _ = np.histogram(gaps_N.numpy() + 0.0, [-np.inf, *EDGES, np.inf])
    found = histogram("rkl", gaps_N)
    assert np.abs(np.array(found) - expected / 4000).max() < 2 / 4000, "a value at an edge may round"
    assert sum(found) == pytest.approx(1.0, abs=1e-12) and min(found) > 0


def test_a_bin_has_its_lower_edge_and_its_name_says_its_edges() -> None:
    for k, edge in enumerate(EDGES):
        assert in_bins(torch.tensor([edge], dtype=torch.float64))[k + 1].item()
    for k, name in enumerate(COEFFICIENT_BINS):
        assert int(name[:2]) == k and re.fullmatch(r"\d\d_\w+", name)
        said = [float(w.replace("m", "-").replace("_", ".")) for w in re.findall(r"m?\d+(?:_\d+)?", name[3:])]
        assert said == list(EDGES[max(0, k - 1) : k + 1])


def test_dropped_tokens_and_those_without_a_number_are_in_no_bin() -> None:
    found = histogram("rkl", torch.tensor([0.5, 5.0]), weights_N=torch.tensor([1.0, 0.0]))
    assert found[COEFFICIENT_BINS.index("10_0_3_to_1")] == 1.0 and sum(found) == 1.0
    assert in_bins(torch.tensor([float("nan"), float("-inf"), float("inf")])).sum(dim=0).tolist() == [0, 1, 1]


def test_the_histogram_shows_what_bounds_a_penalty() -> None:
    """Tokens from e^-8 to e^8 times the reference's probability: srkl at .8 asks at most .023 of the confident ones
    and follows the gap of suppressed ones, log(1 − alpha) − alpha behind; js is bounded above by ½ log 2."""
    gaps_N = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    last = {name: max(k for k, share in enumerate(histogram(name, gaps_N)) if share) for name in ("srkl", "rkl", "js")}
    names = {name: COEFFICIENT_BINS[k] for name, k in last.items()}
    assert names == {"srkl": "07_0_01_to_0_03", "rkl": "12_from_3", "js": "10_0_3_to_1"}
    assert histogram("rkl", gaps_N)[0] == pytest.approx((8 - 3) / 16, abs=1e-3)
    assert histogram("srkl", gaps_N)[0] == pytest.approx((8 - 3 + math.log(1 - 0.8) - 0.8) / 16, rel=0.02)


def test_shares_add_up_over_micro_batches() -> None:
    gaps_N = torch.tensor([-4.0, -0.5, 0.0, 0.02, 2.0])
    whole, parts = histogram("rkl", gaps_N), [histogram("rkl", part) for part in (gaps_N[:2], gaps_N[2:])]
    assert whole == pytest.approx([(2 * a + 3 * b) / 5 for a, b in zip(*parts, strict=True)])
