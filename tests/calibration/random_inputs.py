"""Confidences and labels as they come: smooth, tied votes, on bin edges, extreme, few, one class only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
KINDS = ("smooth", "votes", "edges", "extreme", "equal")


def random_input(seed: int) -> tuple[str, FloatArray, FloatArray]:
    """Kind, confidence and 0/1 correctness of 1 to 300 items; one input in ten has one class only."""
    rng = np.random.default_rng([20261121, seed])
    kind = KINDS[seed % len(KINDS)]
    n = int(rng.choice([1, 2, 3, 7, 40, 300]))
    if kind == "smooth":
        confidence = rng.random(n)
    elif kind == "votes":
        confidence = rng.integers(0, 17, n) / 16
    elif kind == "edges":
        confidence = rng.integers(0, 11, n) / 10
    elif kind == "extreme":
        confidence = rng.choice([0.0, 1.0, 1e-12, 1 - 1e-12, 0.5], n)
    else:
        confidence = np.full(n, rng.random())
    correct = (rng.random(n) < confidence * 0.7 + 0.1).astype(np.float64)
    if rng.random() < 0.1:
        correct[:] = rng.integers(0, 2)
    return kind, confidence, correct
