"""RLOO (arXiv 2402.14740): REINFORCE with the mean of the other samples' rewards as baseline.

The log-prob of a whole response is the sum over its tokens, so that the gradient of the expected reward is estimated
without bias.

Departures: 1. From the second minibatch on, tokens are clipped as in PPO. On the first the ratio is 1 and the gradient
is the paper's. 2. as GRPO's 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from .advantages import leave_one_out
from .aggregation import sequence_sum
from .base import Algorithm, AlgorithmConfig
from .surrogate import clipped


@dataclass
class RLOOConfig(AlgorithmConfig):
    name: str = "rloo"


def rloo(config: RLOOConfig) -> Algorithm:
    return Algorithm.of(
        config,
        advantages=leave_one_out,
        surrogate=partial(clipped, low=config.clip_low, high=config.clip_high),
        aggregation=partial(sequence_sum, length=1.0),
    )
