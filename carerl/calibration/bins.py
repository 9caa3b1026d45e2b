"""Binned calibration errors and reliability diagrams.

:func:`ece` is the expected calibration error (Naeini et al. 2015; Guo et al., arXiv 1706.04599, eq. 3), :func:`mce` the
maximum one (Naeini et al. 2015; Guo et al., eq. 5). ``ece(scheme="count")`` is the adaptive calibration error (Nixon et
al., arXiv 1904.01685, of the event "right"), except that bins weigh by their counts, which differ only through ties.

Bins are closed on the left: a confidence of .3 belongs to [.3, .4). Confidence 1 belongs to the last bin.
``correct`` may be a probability of being right instead of 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Holds one bin: its bounds, the mean confidence and mean correctness in it, and the number of items."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: float

    @property
    def gap(self) -> float:
        return abs(self.accuracy - self.confidence)


def reliability_bins(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, scheme: str = "width"
) -> list[ReliabilityBin]:
    """Returns the occupied bins, from low to high.

    ``scheme``: ``width`` for equal widths; ``count`` for equal counts (equal confidences stay together, so that
    the result does not depend on the order of the data and counts can differ); ``unique`` for one bin for each
    confidence that occurs, as votes have few (``bins`` is not used). Edges are compared in the precision of the
    confidences: float32's .7 is in [.7, .8). Raises ValueError for confidences or correctness outside [0, 1], unequal
    lengths or an unknown scheme.
    """
    c, a = checked(confidence, correct)
    if len(c) == 0:
        return []
    index, lows, ends = assign_bins(c, bins, scheme, np.asarray(confidence).dtype)
    found = []
    for k in np.unique(index):
        inside = index == k
        found.append(
            ReliabilityBin(
                low=float(lows[k]),
                high=float(ends[k]),
                confidence=float(c[inside].mean()),
                accuracy=float(a[inside].mean()),
                count=float(inside.sum()),
            )
        )
    return found


def assign_bins(
    c: FloatArray, bins: int, scheme: str, dtype: Any = np.float64
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Returns the bin of each confidence, and the lower and upper bounds of all bins, empty ones included.

    ``dtype``: the precision in which equal widths are compared. Raises ValueError as :func:`reliability_bins`.
    """
    if bins < 1:
        raise ValueError(f"bins = {bins}: one at least")
    if scheme == "width":
        starts = (np.arange(bins) / bins).astype(dtype if np.issubdtype(dtype, np.floating) else np.float64)
        lows, ends = np.arange(bins) / bins, np.arange(1, bins + 1) / bins
    elif scheme in ("count", "unique"):
        starts = np.unique(c) if scheme == "unique" else _equal_count_starts(c, bins)
        lows, ends = starts, np.append(starts[1:], c.max()) if scheme == "count" else starts
    else:
        raise ValueError(f"scheme {scheme!r}: use width, count or unique")
    return np.searchsorted(starts.astype(np.float64), c, side="right") - 1, lows, ends


def _equal_count_starts(c: FloatArray, bins: int) -> FloatArray:
    """Returns the confidences at which equal shares of the items begin; fewer than ``bins`` if values are tied."""
    first = np.searchsorted(np.arange(1, len(c) + 1), len(c) * np.arange(bins) / bins, side="right")
    return np.unique(np.sort(c)[first])


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 10, scheme: str = "width") -> float:
    """Returns the sum over bins of share · |accuracy - confidence|; NaN without data."""
    found = reliability_bins(confidence, correct, bins, scheme)
    total = sum(b.count for b in found)
    return sum(b.count * b.gap for b in found) / total if total else float("nan")


def mce(confidence: ArrayLike, correct: ArrayLike, bins: int = 10, scheme: str = "width") -> float:
    """Returns the largest |accuracy - confidence| of an occupied bin; NaN without data. A bin of one item counts like
    any other: with few items this is noise."""
    return max((b.gap for b in reliability_bins(confidence, correct, bins, scheme)), default=float("nan"))


def checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Returns confidences and correctness as flat float64 arrays of one length. Raises ValueError for other shapes, and
    outside [0, 1]."""
    c: FloatArray = np.asarray(confidence, dtype=np.float64)
    a: FloatArray = np.asarray(correct, dtype=np.float64)
    if not (c.ndim == 1 and c.shape == a.shape):
        raise ValueError(f"shapes differ or are not flat: {c.shape}, {a.shape}")
    slack = 1e-6  # exp of a log-prob that rounding left just above 0
    if not (np.all((c >= 0) & (c <= 1 + slack)) and np.all((a >= 0) & (a <= 1))):
        raise ValueError("confidence and correctness lie in [0, 1]")
    return np.minimum(c, 1.0), a
