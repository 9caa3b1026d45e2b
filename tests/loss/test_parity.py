"""Statistics of gaps against numpy and by hand, and what they are judged by.

What real engines and learners give, with and without faults, is in ``tests/backends/learners/test_parity_limits.py``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from carerl.loss.parity import LIMITS, Gaps, GapStatistics, fault, limits_for

RESOLUTION = 2 ** (1 / 64) - 1 + 1e-9  # half a bin, and what float64 rounds


def statistics(*parts_N: Tensor) -> GapStatistics:
    """Of all parts, each summed up apart as on a rank of its own."""
    whole = Gaps()
    for part_N in parts_N:
        own = Gaps()
        own.add(part_N)
        whole.merge(own)
    return whole.statistics()


def normal(tokens: int, std: float, seed: int = 0) -> Tensor:
    return std * torch.randn(tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wrong(found: GapStatistics, dtype: str) -> str:
    return fault(found, LIMITS[dtype], "sync.probe")


def test_one_gap_of_many_does_not_decide() -> None:
    """300,000 tokens of a bfloat16 engine, one of them .8 nats off. Of a normal distribution the mean of |x| is
    sqrt(2/π) of its width, and 99.9 % lie within 3.29 widths."""
    gap_N = normal(300_000, 0.05)
    gap_N[123_456] = 0.8
    found = statistics(gap_N)
    assert found.mean == pytest.approx(math.sqrt(2 / math.pi) * 0.05, rel=0.01)
    assert found.q999 == pytest.approx(3.2905 * 0.05, rel=0.02)
    assert found.largest == 0.8
    assert not wrong(found, "bfloat16") and wrong(found, "float32")


def test_gaps_of_every_token_decide() -> None:
    assert "in the mean" in wrong(statistics(normal(300_000, 1.0)), "bfloat16")
    assert wrong(statistics(normal(1_000, 1e-3)), "float32")


def test_a_fault_in_two_tokens_of_a_thousand_decides() -> None:
    """Their mean would hide it: 2 nats on .2 % of the tokens are .004 in the mean."""
    gap_N = torch.zeros(100_000)
    gap_N[::500] = 2.0
    found = statistics(gap_N)
    assert found.mean == pytest.approx(0.004) and found.q999 == pytest.approx(2.0, rel=RESOLUTION)
    assert wrong(found, "bfloat16")


@pytest.mark.parametrize("tokens", [2_000, 12_345, 300_000])
@pytest.mark.parametrize("kind", ["normal", "lognormal", "uniform", "mostly zero", "cauchy", "float32"])
def test_the_quantile_is_numpys_to_one_percent(tokens: int, kind: str) -> None:
    draw = np.random.default_rng(tokens)
    gap_N = {
        "normal": lambda: draw.normal(0, 0.05, tokens),
        "lognormal": lambda: draw.lognormal(-8, 2.5, tokens),
        "uniform": lambda: draw.uniform(-1e-6, 1e-6, tokens),
        "mostly zero": lambda: draw.normal(0, 1, tokens) * (draw.random(tokens) < 0.01),
        "cauchy": lambda: draw.standard_cauchy(tokens).clip(-900, 900),
        "float32": lambda: draw.normal(0, 3e-7, tokens).astype(np.float32),
    }[kind]()
    exact = np.abs(gap_N.astype(np.float64))
    found = statistics(*torch.tensor(gap_N).split(777))
    assert found.q999 == pytest.approx(np.quantile(exact, 0.999, method="inverted_cdf"), rel=RESOLUTION)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert found.largest == exact.max()


@pytest.mark.parametrize(
    ("tokens", "rank"), [(1, 1), (2, 1), (100, 99), (999, 998), (1_000, 999), (1_999, 1_998), (2_000, 1_998)]
)
def test_of_few_tokens_one_may_exceed_the_quantile(tokens: int, rank: int) -> None:
    """Gaps of 1, 2, … thousandths, in any order: the quantile is the gap of this rank."""
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(0))
    found = statistics((order + 1) / 1000)
    assert found.q999 == pytest.approx(rank / 1000, rel=RESOLUTION)


def test_a_lone_gross_gap_among_few_tokens_moves_their_mean() -> None:
    gap_N = torch.zeros(100)
    gap_N[3] = -0.8
    assert not wrong(statistics(gap_N), "bfloat16"), "in 100 tokens one may be rounding"
    assert wrong(statistics(gap_N), "float32"), "where .008 in the mean is none"
    gap_N[3] = -40.0
    assert "in the mean" in wrong(statistics(gap_N), "bfloat16")


def test_summaries_add_up_whatever_the_parts() -> None:
    gap_N = normal(5_000, 0.1)
    whole = statistics(gap_N)
    for cut in (1, 999, 4_999):
        parts = [*gap_N.split(cut), torch.zeros(0)]
        found = statistics(*parts[::-1])
        assert (found.q999, found.largest) == (whole.q999, whole.largest)
        assert found.mean == pytest.approx(whole.mean, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_a_gap_that_is_no_number_is_a_fault_wherever_it_stands(value: float, place: int) -> None:
    gap_N = torch.zeros(1_000)
    gap_N[place] = value
    for parts in ([gap_N], gap_N.split(300), [*gap_N.split(300)][::-1]):
        found = statistics(*parts)
        assert not found.mean <= 1e9 and wrong(found, "bfloat16")
        assert not found.largest < math.inf


def test_no_gap_at_all_is_no_proof() -> None:
    assert wrong(Gaps().statistics(), "bfloat16")
    assert math.isnan(statistics(torch.zeros(0)).mean)


def test_gaps_beyond_the_bins_are_counted() -> None:
    tiny, huge = statistics(torch.full((5_000,), 1e-14)), statistics(torch.full((5_000,), 1e5))
    assert tiny == GapStatistics(pytest.approx(1e-14), 0.0, pytest.approx(1e-14))
    assert huge == GapStatistics(1e5, 1e5, 1e5)


@pytest.mark.parametrize(
    ("dtypes", "dtype"),
    [
        (("float32", "float32"), "float32"),
        (("float32", "float64"), "float32"),
        (("bfloat16", "float32"), "bfloat16"),
        (("float32", "bfloat16"), "bfloat16"),
    ],
)
def test_the_coarser_dtype_sets_the_limits_and_a_recipe_overrides_each(dtypes: tuple[str, str], dtype: str) -> None:
    assert limits_for(dtypes) == LIMITS[dtype]
    mine = limits_for(dtypes, mean=0.03)
    assert (mine.mean, mine.q999) == (0.03, LIMITS[dtype].q999)
    mine = limits_for(dtypes, q999=0.7)
    assert (mine.mean, mine.q999) == (LIMITS[dtype].mean, 0.7)


def test_a_fault_is_told_with_statistics_limits_settings_and_dtype() -> None:
    text = fault(GapStatistics(0.312, 4.71, 9.2), limits_for(("bfloat16", "bfloat16"), 0.25, 2.0), "sync.mismatch")
    for part in ("0.31 nats", "sync.mismatch_mean_abort: 0.25", "4.7 at 99.9 %", "sync.mismatch_q999_abort: 2",
                 "at most 9.2", "bfloat16"):  # fmt: skip
        assert part in text
