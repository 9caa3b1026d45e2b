"""Measures how far an engine's log-probs are from the learner's at the same weights, and judges: rounding or a fault?

A gap is |engine − learner| of one sampled token's log-prob, in nats. Many gaps have three statistics: their mean, the
gap that 99.9 % of the tokens do not exceed, and the largest. The first two have limits. The largest is only reported:
it grows with the number of tokens, and in bfloat16 one token in a million is far off without any fault.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BINS_PER_OCTAVE = 32  # a bin's middle is at most 2^(1/64) − 1 = 1.1 % from what lies in it
LOWEST, HIGHEST = -40, 10  # powers of two, nats: a smaller gap counts as 0, a larger one as the largest
BINS = (HIGHEST - LOWEST) * BINS_PER_OCTAVE


@dataclass(frozen=True)
class GapStatistics:
    """Statistics of gaps, in nats a token. They are NaN if a gap is NaN or if there are no gaps."""

    mean: float
    q999: float  # see :meth:`Gaps.statistics`
    largest: float


@dataclass(frozen=True)
class GapLimits:
    """The largest mean and 99.9 % quantile, in nats, that still count as rounding in ``dtype``."""

    dtype: str
    mean: float
    q999: float


# Ten times the rounding of float32 and three times that of bfloat16, measured on a model of 30 layers. For comparison:
# a wrong layer gives 3 nats in the mean, a wrong rope base .3, and in float32 a head that is one step of 1e-6 behind
# 3e-4. Figures and the command: tests/benchmarks/README.md.
ON_GPU = "float32 on a GPU"
LIMITS = {
    "float32": GapLimits("float32", 5e-5, 5e-4),
    # Not measured: attention kernels there may multiply in TF32, which keeps 10 bits.
    ON_GPU: GapLimits(ON_GPU, 1e-3, 1e-2),
    "bfloat16": GapLimits("bfloat16", 0.1, 1.0),
}
#: The least that bfloat16 rounds by: lower limits would end runs in which nothing is wrong.
LEAST_OF_BFLOAT16 = GapLimits("bfloat16", 0.01, 0.05)


def limits_for(dtypes: Collection[str], mean: float = 0.0, q999: float = 0.0, on_gpu: bool = False) -> GapLimits:
    """Returns the limits for the dtypes in which engine and learner compute. ``mean`` and ``q999`` replace them if they
    are not 0. ``on_gpu``: at least one of the two computes on a GPU."""
    default = LIMITS["bfloat16" if "bfloat16" in dtypes else ON_GPU if on_gpu else "float32"]
    return GapLimits(default.dtype, mean or default.mean, q999 or default.q999)


def fault(found: GapStatistics, limits: GapLimits, setting: str) -> str:
    """Says what is wrong with gaps, as part of a sentence; '' if they are rounding. NaN is above every limit.

    ``setting``: how the limits' names begin, ``sync.probe`` or ``sync.mismatch``.
    """
    if found.mean <= limits.mean and found.q999 <= limits.q999:
        return ""
    return (
        f"|engine − learner| of a token's log-prob is {found.mean:.2g} nats in the mean "
        f"({setting}_mean_abort: {limits.mean:g}), {found.q999:.2g} at 99.9 % of the tokens "
        f"({setting}_q999_abort: {limits.q999:g}) and at most {found.largest:.2g}, in {limits.dtype}"
    )


class Gaps:
    """Sums up any number of gaps. Summaries of micro-batches and ranks can be merged.

    It holds counts in bins of equal ratio, so its size does not depend on the number of tokens. Mean and largest are
    exact, the quantile is exact to 1.1 %.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._total = 0.0
        self._largest = 0.0
        self._counts_K = torch.zeros(BINS + 2, dtype=torch.long)  # below the bins, the bins, above them

    def add(self, difference_N: Tensor) -> None:
        """Adds the gaps of tokens: differences of log-probs (N,), of either sign."""
        gap_N = difference_N.detach().cpu().double().abs()
        if gap_N.numel() == 0:
            return
        self.tokens += gap_N.numel()
        self._total += float(gap_N.sum())  # stays NaN once a gap is NaN
        self._largest = max(self._largest, float(gap_N.max()))
        octave_N = gap_N.log2().nan_to_num(nan=HIGHEST, posinf=HIGHEST, neginf=LOWEST - 1)
        bin_N = ((octave_N - LOWEST) * BINS_PER_OCTAVE).floor().clamp(-1, BINS).long() + 1
        self._counts_K += torch.bincount(bin_N, minlength=BINS + 2)

    def merge(self, other: Gaps) -> None:
        """Adds the gaps of another summary."""
        self.tokens += other.tokens
        self._total += other._total
        self._largest = max(self._largest, other._largest)
        self._counts_K += other._counts_K

    def plain(self) -> list[Any]:
        """Returns the contents in types that JSON has. :meth:`of` reads them."""
        return [self.tokens, self._total, self._largest, self._counts_K.tolist()]

    @classmethod
    def of(cls, plain: Sequence[Any]) -> Gaps:
        """Makes a summary from what :meth:`plain` returned."""
        found = cls()
        found.tokens, found._total, found._largest = plain[0], plain[1], plain[2]
        found._counts_K = torch.tensor(plain[3], dtype=torch.long)
        return found

    def statistics(self) -> GapStatistics:
        """Returns mean, 99.9 % quantile and largest.

        The quantile is the gap that one token in a thousand exceeds: n // 1000 of n tokens, as in numpy's
        ``inverted_cdf``. Among fewer than 2,000 tokens one token may exceed it, so that a single token never decides:
        among 100 it is the second largest gap. A lone token that is far enough off still moves the mean of so few.
        """
        if self.tokens == 0 or math.isnan(self._total):
            return GapStatistics(math.nan, math.nan, math.nan)
        return GapStatistics(self._total / self.tokens, self._quantile(), self._largest)

    def _quantile(self) -> float:
        beyond = max(self.tokens // 1000, 1)
        rank = max(self.tokens - beyond, 1)
        bin_ = int(torch.searchsorted(self._counts_K.cumsum(0), rank))
        if bin_ == 0:
            return 0.0
        if bin_ == BINS + 1:
            return self._largest
        middle: float = 2.0 ** (LOWEST + (bin_ - 0.5) / BINS_PER_OCTAVE)
        return min(middle, self._largest)
