"""Proper scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .bins import checked


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean squared difference of confidence and correctness (Brier 1950), for one event each; NaN without data.
    Raises ValueError for values outside [0, 1] and unequal lengths."""
    c, a, _ = checked(confidence, correct, None)
    return float(np.mean((c - a) ** 2)) if c.size else float("nan")
