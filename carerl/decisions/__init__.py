"""Calibration-aware RL: trains the probability of a decision token, on top of any algorithm (arXiv 2601.13284).

A decision is the token of a response that names one of a question's closed options
(:mod:`carerl.grading.decision`). What precedes it is the trace.

============ ==========================================================================================
file         what it has
============ ==========================================================================================
``config``   the settings, section ``decision`` of a recipe
``targets``  the distribution over the options that the cross-entropy is taken toward, one function a target
``fixed``    the probabilities at which training with each target comes to rest
============ ==========================================================================================

A new target is a function and a line in :data:`~carerl.decisions.targets.TARGETS`.
"""

from __future__ import annotations

from .config import DecisionConfig
from .targets import CLAMPS, TARGETS, Target, bound

__all__ = ["CLAMPS", "TARGETS", "DecisionConfig", "Target", "bound"]
