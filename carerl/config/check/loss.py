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
        (
            c.distillation.gains,
            "distillation.name=prg weighs the policy terms that it would stand in, and it would vanish with them",
            "regularizer.place=loss",
        ),
    ):
        if is_wrong:
            yield ConfigError("regularizer.place", "reward", reason, f"write {remedy}")


def decision_pairings(c: RunConfig) -> Errors:
    """Yields an error for decisions that the task does not have, for an algorithm that replaces groups while responses
    are being decoded, and for probabilities that are trained at another temperature than 1."""
    d = c.decision
    if not d.needed or c.algorithm is None:
        return
    key = "name" if d.trains else "reward"
    if not c.task.has_decisions:
        yield ConfigError(
            f"decision.{key}",
            getattr(d, key),
            f"task {c.task.name} has no questions with closed options whose answers are uncertain",
            "choose a task with options, such as commonsenseqa; or in the tiny world write task.gold_noise=0.05",
        )
    if d.trains and c.rollout.temperature != 1:
        yield ConfigError(
            "rollout.temperature",
            c.rollout.temperature,
            f"decision.name={d.name} would train the probabilities at this temperature, and every evaluation takes "
            "those at 1, which would not be the trained ones",
            "write rollout.temperature=1",
        )
    if c.algorithm.max_draws > 1:
        yield _replaced(c)


def _replaced(c: RunConfig) -> ConfigError:
    """Returns the error for groups that are replaced, with the reason that holds for what is done at decisions."""
    d = c.decision
    if d.trains:
        reason = (
            f"groups that are all right or all wrong would be replaced, and decision.name={d.name} would be trained on "
            "decisions that were chosen by whether they were right: their probabilities would not be true"
        )
        remedy = "write algorithm.max_draws=1: such groups are then kept for their decisions"
    else:
        reason = (
            f"decision.reward={d.reward} asks for the likeliest decision once all responses have ended, and "
            "replacements are drawn while others are decoded"
        )
        remedy = "write algorithm.max_draws=1: groups that are all right or all wrong are then not replaced"
    return ConfigError("algorithm.max_draws", c.algorithm.max_draws, reason, remedy)


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
