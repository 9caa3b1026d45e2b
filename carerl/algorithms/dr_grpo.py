"""Dr. GRPO (arXiv 2503.20783): GRPO without its two divisions.

Dividing by the group's standard deviation favours questions that are nearly solved or nearly hopeless. Dividing by the
response's length favours long wrong answers. Here the sum over a response's tokens is divided by ``constant_length``
instead, which is meant to be the generation budget. It is a constant, not the width to which a batch happens to be
padded.

Departures: as GRPO's 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, at_least

from .advantages import group_relative
from .aggregation import sequence_sum
from .base import Algorithm, AlgorithmConfig
from .surrogate import clipped


@dataclass
class DrGRPOConfig(AlgorithmConfig):
    name: str = "dr_grpo"
    # tokens; must be given, as what a beta weighs against depends on it
    constant_length: Annotated[int, at_least(0)] = 0

    def shorten(self, room: int, share: float) -> None:
        if self.constant_length:
            self.constant_length = max(1, round(self.constant_length * share))

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        if self.constant_length == 0:
            yield ConfigError(
                "algorithm.constant_length",
                0,
                "Dr. GRPO divides by a constant number of tokens, and beta means nothing before it is known",
                f"write algorithm.constant_length={run.rollout.max_new_tokens}, what rollout.max_new_tokens allows",
            )


def dr_grpo(config: DrGRPOConfig) -> Algorithm:
    """Builds the algorithm. Raises ValueError without a ``constant_length``."""
    if config.constant_length < 1:
        raise ValueError(f"algorithm.constant_length = {config.constant_length}: Dr. GRPO needs a number of tokens")
    return Algorithm.of(
        config,
        advantages=partial(group_relative, divide_by_std=False, epsilon=0.0),
        surrogate=partial(clipped, low=config.clip_low, high=config.clip_high),
        aggregation=partial(sequence_sum, length=float(config.constant_length)),
    )
