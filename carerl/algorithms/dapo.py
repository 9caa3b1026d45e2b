"""DAPO (arXiv 2503.14476): GRPO with a higher upper clip, a mean over all tokens of the minibatch, uniform groups
dropped, and two ways to treat responses that reach the length limit.

Dynamic sampling: groups that are all right or all wrong are replaced by groups of fresh prompts, as far as
``max_draws`` allows. The grader's outcome decides, not the shaped reward. The uniform groups that remain have no policy
term and no regularizer, and count in no denominator.

``mask_truncated`` removes truncated responses from the policy term and its denominator. Their rewards still take part
in their group's advantages. Their regularizer stays: without it, the penalty on a token would depend on the rest of its
response. ``overlong_buffer`` is the soft overlong punishment.

Departures: 1. as GRPO's 1 and 2. 2. The original has no divergence; here the regularizer is averaged over the same
tokens. Dropping groups depends on the responses and so biases the sampled estimators a little; ``full`` has no such
bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, at_least

from .advantages import group_relative
from .aggregation import token_mean
from .base import Algorithm, AlgorithmConfig
from .surrogate import clipped


@dataclass
class DAPOConfig(AlgorithmConfig):
    name: str = "dapo"
    clip_high: float = 0.28
    std_epsilon: Annotated[float, at_least(0)] = 1e-4
    drop_uniform_groups: bool = True
    # prompts drawn a step at most, times prompts_per_step; 1: dropped groups are not replaced
    max_draws: Annotated[int, at_least(1)] = 4
    mask_truncated: bool = False
    # tokens at which the punishment is whole; meant to be rollout.max_new_tokens
    overlong_length: Annotated[int, at_least(0)] = 0
    # tokens before it over which the punishment grows from 0 to 1; 0: none
    overlong_buffer: Annotated[int, at_least(0)] = 0

    def shorten(self, room: int, share: float) -> None:
        if self.overlong_length:
            self.overlong_length = max(1, round(self.overlong_length * share))
        if self.overlong_buffer:
            self.overlong_buffer = max(1, round(self.overlong_buffer * share))
            self.overlong_length = max(self.overlong_buffer, min(self.overlong_length, room + self.overlong_buffer - 1))

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        if self.max_draws > 1 and not self.drop_uniform_groups:
            yield ConfigError(
                "algorithm.max_draws",
                self.max_draws,
                "only groups that are dropped are replaced, and algorithm.drop_uniform_groups is false",
                "write algorithm.max_draws=1, or algorithm.drop_uniform_groups=true",
            )
        yield from self._overlong(run.rollout.max_new_tokens)

    def _overlong(self, room: int) -> Errors:
        buffer, length = self.overlong_buffer, self.overlong_length
        if buffer > length > 0:
            yield ConfigError(
                "algorithm.overlong_buffer",
                buffer,
                f"it is longer than algorithm.overlong_length={length}: even an empty response would be punished",
                f"write algorithm.overlong_buffer={length} or less, or 0 for off",
            )
        elif buffer and length == 0:
            yield ConfigError(
                "algorithm.overlong_length",
                length,
                "algorithm.overlong_buffer needs the length at which the punishment is whole",
                f"write algorithm.overlong_length={room}",
            )
        elif buffer and length - buffer >= room:
            yield ConfigError(
                "algorithm.overlong_length",
                length,
                f"the punishment begins at {length - buffer} tokens, and rollout.max_new_tokens={room} ends every "
                "response",
                f"write algorithm.overlong_length={room}",
            )


def overlong_punishment(tokens: int, length: int, buffer: int) -> float:
    """Returns 0 up to ``length - buffer`` tokens, then falls linearly to −1 at ``length``, and stays −1 beyond.

    >>> [overlong_punishment(tokens, length=20, buffer=4) for tokens in (16, 17, 20, 30)]
    [0.0, -0.25, -1.0, -1.0]
    """
    return max(-1.0, min(0.0, (length - buffer - tokens) / buffer))


def dapo(config: DAPOConfig) -> Algorithm:
    length, buffer = config.overlong_length, config.overlong_buffer
    return Algorithm.of(
        config,
        advantages=partial(group_relative, divide_by_std=True, epsilon=config.std_epsilon),
        surrogate=partial(clipped, low=config.clip_low, high=config.clip_high),
        aggregation=token_mean,
        length_reward=partial(overlong_punishment, length=length, buffer=buffer) if buffer else None,
        drop_uniform_groups=config.drop_uniform_groups,
        max_draws=config.max_draws,
        mask_truncated=config.mask_truncated,
    )
