"""GRPO (arXiv 2402.03300): group-normalised advantages, token ratio with symmetric clipping, mean over each
sequence's tokens and then over sequences.

Departures: 1. the standard deviation has n - 1 in its denominator and ``std_epsilon`` added; 2. a group of equal
rewards has advantage exactly 0; 3. the divergence to the reference is a regularizer of its own, averaged over
tokens and not over sequences; 4. where ``mismatch_cap`` is not 0 (its default), tokens are weighted by
exp(old − rollout), as far as the engine's log-probs differ from the learner's (3 and 4 in ``objective``, for every
algorithm here).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from carerl.settings import at_least

from .advantages import group_relative
from .aggregation import sequence_mean
from .base import Algorithm, AlgorithmConfig
from .surrogate import clipped


@dataclass
class GRPOConfig(AlgorithmConfig):
    name: str = "grpo"
    advantage_std: bool = True  # divide by the group's standard deviation
    std_epsilon: Annotated[float, at_least(0)] = 1e-4


def grpo(config: GRPOConfig) -> Algorithm:
    return Algorithm.of(
        config,
        advantages=partial(group_relative, divide_by_std=config.advantage_std, epsilon=config.std_epsilon),
        surrogate=partial(clipped, low=config.clip_low, high=config.clip_high),
        aggregation=sequence_mean,
    )
