"""Estimates pass@k from several attempts at a question."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .bins import FloatArray


def pass_at_k(attempts: ArrayLike, right: ArrayLike, k: int) -> FloatArray:
    """Estimates (Q,) P(at least one of k attempts is right) for each question from n >= k attempts, of which c were
    right: 1 - C(n - c, k)/C(n, k) (Chen et al., arXiv 2107.03374, eq. 1), the mean over all subsets of k; unbiased.

    As a product, 1 - prod_{i=n-c+1..n} (1 - k/i), which overflows nowhere. Raises ValueError for k < 1, k above n, or c
    outside 0 … n.
    """
    n_Q, c_Q = np.broadcast_arrays(np.asarray(attempts, dtype=np.int64), np.asarray(right, dtype=np.int64))
    if k < 1 or np.any(n_Q < k):
        raise ValueError(f"pass@{k} needs k >= 1 and {k} attempts at every question")
    if np.any((c_Q < 0) | (c_Q > n_Q)):
        raise ValueError("right attempts number between 0 and all attempts")
    found = [1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)) for n, c in zip(n_Q.flat, c_Q.flat, strict=True)]
    return np.array(found, dtype=np.float64).reshape(n_Q.shape)
