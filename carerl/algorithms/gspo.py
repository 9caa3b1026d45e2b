"""GSPO (arXiv 2507.18071): GRPO with one ratio for each sequence, exp(mean of its tokens' log-ratios), clipped around 1
by narrow bounds of its own.

The mean is over the response's tokens and nothing else. An empty response has no ratio, but counts in the mean over
sequences.

Departures: 1. as GRPO's 1 to 3, so the regularizer keeps its token ratio. 2. ``mismatch_cap`` weighs a sequence by the
mean of its tokens' weights; ``mismatch_correction=sequence_mask`` decides for whole sequences, as the ratio does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from carerl.settings import at_least

from .advantages import group_relative
from .aggregation import sequence_mean
from .base import Algorithm, AlgorithmConfig
from .surrogate import sequence_clipped


@dataclass
class GSPOConfig(AlgorithmConfig):
    name: str = "gspo"
    clip_low: float = 3e-4
    clip_high: float = 4e-4
    std_epsilon: Annotated[float, at_least(0)] = 1e-4

    @property
    def sequence_ratio(self) -> bool:
        return True


def gspo(config: GSPOConfig) -> Algorithm:
    return Algorithm.of(
        config,
        advantages=partial(group_relative, divide_by_std=True, epsilon=config.std_epsilon),
        surrogate=partial(sequence_clipped, low=config.clip_low, high=config.clip_high),
        aggregation=sequence_mean,
    )
