"""Defines what an algorithm is, three functions and a few settings, and the configuration that all algorithms share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .aggregation import Aggregation
from .surrogate import Surrogate

UPDATES = ("full", "positive", "negative")


@dataclass
class AlgorithmConfig:
    """Holds the settings that every algorithm has. Each algorithm adds its own, and may have other defaults."""

    name: str
    group_size: int = 8  # samples per prompt, G
    minibatches: int = 2  # optimizer steps per batch of rollouts and epoch
    epochs: int = 1
    clip_low: float = 0.2
    clip_high: float = 0.2
    update: str = "full"  # full | positive | negative: the advantages whose policy terms take part
    entropy_bonus: float = 0.0  # coefficient of the mean token entropy
    entropy_target: float = 0.0  # nats a token that the bonus is adapted to; 0: it stays as it is
    entropy_step: float = 0.001  # by which the bonus is then moved in every step of the loop
    mismatch_cap: float = 0.0  # largest exp(old - rollout) of a token; 0: no correction, right while they agree
    mismatch_correction: str = "truncate"  # truncate | mask | sequence_mask: what happens beyond the cap

    @property
    def smallest_group(self) -> int:
        """The smallest ``group_size`` that has an advantage."""
        return 2

    @property
    def sequence_ratio(self) -> bool:
        """True if all tokens of a response share one ratio, so that no token can have a reward of its own."""
        return False


@dataclass(frozen=True)
class Algorithm:
    """Combines three functions and the settings that the loss reads.

    ``advantages`` maps rewards (P prompts, G samples) to advantages of the same shape. ``surrogate`` is the policy term
    of a token. ``aggregation`` weighs tokens and sequences.

    ``update``: the samples whose policy terms take part, by the sign of their advantage. The gradients of ``positive``
    and ``negative`` add up to that of ``full``, as denominators, regularizer and entropy bonus are always those of the
    full batch.

    ``entropy_bonus`` multiplies the mean token entropy, which is subtracted from the loss. With an ``entropy_target``
    it is only the first value, see :mod:`carerl.loss.entropy`.

    ``mismatch_cap`` bounds the weight exp(old − rollout) that corrects a token's policy term and sampled regularizer
    where engine and learner disagree about the same weights; 0 means no such weight. ``mismatch_correction`` says what
    becomes of weights beyond the cap, see :mod:`carerl.loss.mismatch`.

    ``length_reward`` is added to a sample's reward before its advantage is computed, from its number of tokens.

    ``drop_uniform_groups``: groups that are all correct or all incorrect lose their policy term and their regularizer,
    and count in no denominator. To replace them, up to ``max_draws`` times the prompts of a step may be drawn.

    ``mask_truncated``: truncated responses contribute no policy term.
    """

    advantages: Callable[[Tensor], Tensor]
    surrogate: Surrogate
    aggregation: Aggregation
    update: str = "full"
    entropy_bonus: float = 0.0
    entropy_target: float = 0.0
    mismatch_cap: float = 0.0
    mismatch_correction: str = "truncate"
    length_reward: Callable[[int], float] | None = None
    drop_uniform_groups: bool = False
    max_draws: int = 1
    mask_truncated: bool = False

    def __post_init__(self) -> None:
        if self.update not in UPDATES:
            raise ValueError(f"update = {self.update}: it must be one of {', '.join(UPDATES)}")

    @classmethod
    def of(
        cls,
        config: AlgorithmConfig,
        advantages: Callable[[Tensor], Tensor],
        surrogate: Surrogate,
        aggregation: Aggregation,
        **settings: Any,
    ) -> Algorithm:
        """Builds an algorithm from its parts and the settings that every algorithm has. ``settings``: the remaining
        fields."""
        return cls(
            advantages,
            surrogate,
            aggregation,
            update=config.update,
            entropy_bonus=config.entropy_bonus,
            entropy_target=config.entropy_target,
            mismatch_cap=config.mismatch_cap,
            mismatch_correction=config.mismatch_correction,
            **settings,
        )


@dataclass(frozen=True)
class AlgorithmEntry:
    """Holds one line of the table: the Config dataclass, the function that builds the algorithm, one line for
    ``--help``."""

    config: type
    build: Callable[[Any], Algorithm]
    line: str
