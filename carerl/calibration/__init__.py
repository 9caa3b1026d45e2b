"""Calibration metrics and the statistics of comparisons, on NumPy arrays.

``bins`` holds the expected calibration error and its reliability diagram, ``votes`` the majority vote, and ``seeds``
the intervals and tests over seeds.
"""

from __future__ import annotations

from .bins import ReliabilityBin, ece, reliability_bins
from .seeds import Interval, PairedTest, holm, paired_t, t_interval
from .votes import majority

__all__ = [
    "Interval",
    "PairedTest",
    "ReliabilityBin",
    "ece",
    "holm",
    "majority",
    "paired_t",
    "reliability_bins",
    "t_interval",
]
