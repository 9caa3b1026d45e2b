"""REINFORCE++ (arXiv 2501.03262): PPO's clipped token term, with rewards normalised over the whole batch of rollouts,
all prompts together.

``group_baseline`` is the paper's variant for several samples a prompt: it subtracts the group's mean, and still divides
by the batch's standard deviation.

Departures: 1. The divergence is a regularizer of its own, not a part of the reward. 2. Rewards that are all equal have
advantage exactly 0. 3. The standard deviation has n − 1 in its denominator, and ``std_epsilon`` is added to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from carerl.settings import at_least

from .advantages import batch_normalised
from .aggregation import sequence_mean
from .base import Algorithm, AlgorithmConfig
from .surrogate import clipped


@dataclass
class ReinforcePPConfig(AlgorithmConfig):
    name: str = "reinforce_pp"
    group_baseline: bool = True  # subtract the group's mean instead of the batch's
    std_epsilon: Annotated[float, at_least(0)] = 1e-4

    @property
    def smallest_group(self) -> int:
        return 2 if self.group_baseline else 1


def reinforce_pp(config: ReinforcePPConfig) -> Algorithm:
    return Algorithm.of(
        config,
        advantages=partial(batch_normalised, group_baseline=config.group_baseline, epsilon=config.std_epsilon),
        surrogate=partial(clipped, low=config.clip_low, high=config.clip_high),
        aggregation=sequence_mean,
    )
