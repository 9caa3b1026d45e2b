"""Smooths the courses that runs log, for pictures of one run and of many alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a centred running mean over a twentieth of the run. Windows are shorter at the ends, so that the length
    stays the same."""
    means = [np.nan if np.isnan(window).all() else float(np.nanmean(window)) for window in _windows(values)]
    return np.asarray(means)


def running_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a centred running median over the windows of :func:`smooth`."""
    return np.asarray([float(np.median(window)) for window in _windows(values)])


def _windows(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    half = max(1, len(values) // 40)
    return [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
