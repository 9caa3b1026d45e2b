"""Intervals and tests over seeds, where n is small: Student's t with n - 1 degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats has the same functions and takes a second to import


@dataclass(frozen=True)
class PairedTest:
    """Holds the result of :func:`paired_t`. ``difference``: mean of a - b. ``p_value``: two-sided. ``lower_bound``:
    one-sided bound of the difference; with probability ``level`` it lies below the truth.
    """

    difference: float
    p_value: float
    lower_bound: float


def t_half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Returns the half-width of the two-sided interval for the mean. Raises ValueError for fewer than two values."""
    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        raise ValueError("an interval needs two values at least")
    quantile = float(special.stdtrit(x.size - 1, 0.5 + level / 2))
    return quantile * float(x.std(ddof=1)) / math.sqrt(x.size)


def paired_t(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> PairedTest:
    """Tests the mean of a - b against 0, pair by pair. Raises ValueError for unequal lengths or under two pairs."""
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} and {len(b)} values: pairs are needed, two at least")
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    degrees = gap.size - 1
    error = 0.0 if np.all(gap == gap[0]) else float(gap.std(ddof=1)) / math.sqrt(gap.size)
    mean = float(gap.mean())
    if error == 0.0:  # equal differences: certain either way
        t = math.copysign(math.inf, mean) if mean else 0.0
    else:
        t = mean / error
    return PairedTest(
        difference=mean,
        p_value=2 * float(special.stdtr(degrees, -abs(t))),
        lower_bound=mean - float(special.stdtrit(degrees, level)) * error,
    )


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Corrects p-values by Holm's step-down method, in the order given (Holm 1979). Raises ValueError outside [0,
    1]."""
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p-values lie in [0, 1]")
    corrected = np.empty_like(p)
    running = 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        running = max(running, min(1.0, float(p[index]) * (p.size - rank)))
        corrected[index] = running
    return corrected
