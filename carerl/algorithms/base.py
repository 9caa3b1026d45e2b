"""Defines what an algorithm is, three functions and a few settings, and the configuration that all algorithms share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, above, at_least, one_of

from .aggregation import Aggregation
from .surrogate import Surrogate

UPDATES = ("full", "positive", "negative")
CORRECTIONS = ("truncate", "mask", "sequence_mask")  # see carerl/loss/mismatch.py


@dataclass
class AlgorithmConfig(Settings):
    """Holds the settings that every algorithm has. Each algorithm adds its own, and may have other defaults."""

    name: str
    group_size: int = 8  # samples per prompt, G
    minibatches: Annotated[int, at_least(1)] = 2  # optimizer steps per batch of rollouts and epoch
    epochs: Annotated[int, at_least(1)] = 1
    clip_low: Annotated[float, at_least(0)] = 0.2
    clip_high: Annotated[float, at_least(0)] = 0.2
    update: Annotated[str, one_of(UPDATES)] = (
        "full"  # full | positive | negative: the advantages whose policy terms take part
    )
    entropy_bonus: Annotated[float, at_least(0)] = 0.0  # coefficient of the mean token entropy
    # nats a token that the bonus is adapted to; 0: it stays as it is
    entropy_target: Annotated[float, at_least(0)] = 0.0
    entropy_step: Annotated[float, above(0)] = 0.001  # by which the bonus is then moved in every step of the loop
    # largest exp(old - rollout) of a token; 0: no correction, right while they agree
    mismatch_cap: Annotated[float, at_least(0)] = 0.0
    # truncate | mask | sequence_mask: what happens beyond the cap
    mismatch_correction: Annotated[str, one_of(CORRECTIONS)] = "truncate"

    @property
    def smallest_group(self) -> int:
        """The smallest ``group_size`` that has an advantage."""
        return 2

    @property
    def sequence_ratio(self) -> bool:
        """True if all tokens of a response share one ratio, so that no token can have a reward of its own."""
        return False

    @property
    def max_draws(self) -> int:
        """How many times the prompts of a step may be drawn to replace groups that are dropped."""
        return 1

    @property
    def mask_truncated(self) -> bool:
        """True if a truncated response has no policy term."""
        return False

    def shorten(self, room: int, share: float) -> None:
        """Fits lengths among the settings to responses of at most ``room`` tokens, ``share`` of what they were made
        for. An algorithm without such lengths changes nothing."""

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        yield from self._batch(run)
        if self.clip_low >= 1:
            yield ConfigError(
                "algorithm.clip_low",
                self.clip_low,
                "ratios are clipped at 1 - clip_low, which must stay above 0",
                "write algorithm.clip_low=0.2",
            )
        if 0 < self.mismatch_cap < 1:
            yield ConfigError(
                "algorithm.mismatch_cap",
                self.mismatch_cap,
                "where engine and learner agree every weight is 1, and a cap below it would shrink them all",
                "write algorithm.mismatch_cap=2, or 0 for no correction",
            )
        if self.mismatch_correction != "truncate" and self.mismatch_cap == 0:
            yield ConfigError(
                "algorithm.mismatch_correction",
                self.mismatch_correction,
                "algorithm.mismatch_cap=0 turns the correction off",
                "write algorithm.mismatch_cap=2 too, or algorithm.mismatch_correction=truncate",
            )

    def _batch(self, run: Run) -> Errors:
        groups = run.prompts_per_step
        if self.group_size < self.smallest_group:
            yield ConfigError(
                "algorithm.group_size",
                self.group_size,
                f"the advantage of {self.name} compares the responses to one prompt, and needs "
                f"{self.smallest_group} of them at least",
                "write algorithm.group_size=8",
            )
        elif groups % self.minibatches:
            divisors = [str(n) for n in range(1, groups + 1) if groups % n == 0]
            yield ConfigError(
                "algorithm.minibatches",
                self.minibatches,
                f"{groups} prompts do not divide into {self.minibatches} minibatches of whole groups",
                f"choose one of {', '.join(divisors)}, or make prompts_per_step a multiple of {self.minibatches}",
            )

    def rows_per_minibatch(self, prompts: int) -> int:
        """Returns how many responses an optimizer step takes in, from the prompts of a step of the loop."""
        return prompts // self.minibatches * self.group_size


@dataclass(frozen=True)
class Algorithm:
    """Combines three functions and the settings that the loss reads.

    ``advantages`` maps rewards (P prompts, G samples) to advantages of the same shape. ``surrogate`` is the policy term
    of a token. ``aggregation`` weighs tokens and sequences.

    ``update``: the samples whose policy terms take part, by the sign of their advantage. The gradients of ``positive``
    and ``negative`` add up to that of ``full``, as denominators, regularizer and entropy bonus are always those of the
    full batch.

    ``entropy_bonus`` multiplies the mean token entropy, which is subtracted from the loss. With an ``entropy_target``
    it is only the first value, see :mod:`carerl.loss.adaptive`.

    ``mismatch_cap`` bounds the weight exp(old − rollout) that corrects a token's policy term and sampled regularizer
    where engine and learner disagree about the same weights; 0 means no such weight. ``mismatch_correction`` says what
    becomes of weights beyond the cap, see :mod:`carerl.loss.mismatch`.

    ``length_reward`` is added to a sample's reward before its advantage is computed, from its number of tokens.

    ``drop_uniform_groups``: groups that are all correct or all incorrect lose their policy term and their regularizer,
    and count in no denominator. To replace them, up to ``max_draws`` times the prompts of a step may be drawn.

    ``mask_truncated``: truncated responses contribute no policy term. ``minibatches``: optimizer steps per batch of
    rollouts and epoch, of which there are ``epochs``.
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
    minibatches: int = 1
    epochs: int = 1

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
            minibatches=config.minibatches,
            epochs=config.epochs,
            **settings,
        )


@dataclass(frozen=True)
class AlgorithmEntry:
    """Holds one line of the table: the Config dataclass, the function that builds the algorithm, one line for
    ``--help``."""

    config: type
    build: Callable[[Any], Algorithm]
    line: str
