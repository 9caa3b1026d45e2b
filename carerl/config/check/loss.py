"""Settings of algorithm, regularizer and reward that are legal by themselves and mean nothing, or harm, together."""

from __future__ import annotations

import math

from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.errors import ConfigError
from carerl.regularizers import refusal
from carerl.rewards import REWARDS
from carerl.settings import Errors


def loss_pairings(c: RunConfig) -> Errors:
    """Yields an error for an entropy that no policy over the model's vocabulary has, and for a penalty in the reward
    that the algorithm has no place for."""
    if c.algorithm is None:
        return
    shape, _ = effective_shape(c)
    target, limit = c.algorithm.entropy_target, math.log(shape.vocab_size)
    if target >= limit:
        yield ConfigError(
            "algorithm.entropy_target",
            target,
            f"no policy over {shape.vocab_size} tokens has more than {limit:.2f} nats, so the bonus would only grow",
            "write a target between 0.05 and 1, or 0 for off",
        )
    if c.regularizer.place == "reward" and refusal(c.regularizer.estimator, c.regularizer.no_log_ratio) is None:
        yield from _in_reward(c)


def _in_reward(c: RunConfig) -> Errors:
    algorithm, estimator = c.algorithm, c.regularizer.estimator
    update = algorithm.update
    for is_wrong, reason, remedy in (
        (
            estimator != "score",
            f"estimator {estimator} is a loss and no reward of a token",
            "regularizer.estimator=score",
        ),
        (
            algorithm.sequence_ratio,
            f"{algorithm.name} gives all tokens of a response one ratio",
            "regularizer.place=loss",
        ),
        (
            update != "full",
            f"algorithm.update={update} takes away the policy terms that it would stand in",
            "regularizer.place=loss",
        ),
        (
            algorithm.mask_truncated,
            "algorithm.mask_truncated takes away the policy terms of truncated responses, in which it would stand",
            "regularizer.place=loss",
        ),
    ):
        if is_wrong:
            yield ConfigError("regularizer.place", "reward", reason, f"write {remedy}")


def reward_pairings(c: RunConfig) -> Errors:
    """Yields an error for a reward that reads something which the task's responses never hold."""
    r = c.reward
    if r is None:
        return
    key = r.text_setting or "name"
    if REWARDS[r.name].reads_text(r) and not c.task.writes_text:
        yield ConfigError(
            f"reward.{key}",
            getattr(r, key),
            f"task {c.task.name} has no words for a confidence or a box, so that every response would earn the same",
            "write reward.name=correct, or choose a task of text",
        )
    elif r.reads_confidence and not c.task.ask_confidence:
        yield ConfigError(
            "task.ask_confidence",
            False,
            f"reward.{key}={_short(getattr(r, key))} looks at a confidence that no prompt asks for",
            "write task.ask_confidence=true, as reward/rlcr does (a template with <confidence> in it stays as it is)",
        )


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
