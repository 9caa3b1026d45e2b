"""GRPO (arXiv 2402.03300): advantages normalised in each group, a token ratio with symmetric clipping, and a mean over
each sequence's tokens, then over sequences.

Departures: 1. The standard deviation has n − 1 in its denominator, and ``std_epsilon`` is added to it. 2. A group of
equal rewards has advantage exactly 0. 3. The divergence to the reference is a regularizer of its own, averaged over
tokens and not over sequences. 4. Where ``mismatch_cap`` is above 0 (its default is 0), tokens are weighted by exp(old −
rollout), where ``old`` is the learner's log-prob of the token and ``rollout`` the engine's, to correct for their
difference. 3 and 4 are in :mod:`carerl.loss.objective`
and hold for every algorithm here.
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
