"""Settings of algorithm and regularizer that are legal by themselves and mean nothing, or harm, together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.errors import ConfigError, suggestion
from carerl.loss.adaptive import CLIP
from carerl.regularizers import ESTIMATORS, refusal

Errors = Iterator[ConfigError]


def setting(config: Any, key: str, default: Any) -> Any:
    """A setting that only some algorithms, regularizers or tasks have."""
    return getattr(config, key, default)


def algorithm_pairings(c: RunConfig) -> Errors:
    a = c.algorithm
    cap, correction = setting(a, "mismatch_cap", 0.0), setting(a, "mismatch_correction", "truncate")
    if 0 < cap < 1:
        yield ConfigError(
            "algorithm.mismatch_cap",
            cap,
            "where engine and learner agree every weight is 1, and a cap below it would shrink them all",
            "write algorithm.mismatch_cap=2, or 0 for no correction",
        )
    if correction != "truncate" and cap == 0:
        yield ConfigError(
            "algorithm.mismatch_correction",
            correction,
            "algorithm.mismatch_cap=0 turns the correction off",
            "write algorithm.mismatch_cap=2 too, or algorithm.mismatch_correction=truncate",
        )
    draws = setting(a, "max_draws", 1)
    if draws > 1 and not setting(a, "drop_uniform_groups", False):
        yield ConfigError(
            "algorithm.max_draws",
            draws,
            "only groups that are dropped are replaced, and algorithm.drop_uniform_groups is false",
            "write algorithm.max_draws=1, or algorithm.drop_uniform_groups=true",
        )
    room = c.rollout.max_new_tokens
    buffer, length = setting(a, "overlong_buffer", 0), setting(a, "overlong_length", 0)
    if buffer > length > 0:
        yield ConfigError(
            "algorithm.overlong_buffer",
            buffer,
            f"it is longer than algorithm.overlong_length={length}: even an empty response would be punished",
            f"write algorithm.overlong_buffer={length} or less, or 0 for off",
        )
    elif buffer and not buffer <= length < room + buffer:
        yield ConfigError(
            "algorithm.overlong_length",
            length,
            f"the punishment begins at {length - buffer} tokens, and rollout.max_new_tokens={room} ends every response"
            if length
            else "algorithm.overlong_buffer needs the length at which the punishment is whole",
            f"write algorithm.overlong_length={room}",
        )
    if setting(a, "constant_length", 1) == 0:
        yield ConfigError(
            "algorithm.constant_length",
            0,
            "Dr. GRPO divides by a constant number of tokens, and beta means nothing before it is known",
            f"write algorithm.constant_length={room}, what rollout.max_new_tokens allows",
        )
    shape, _ = effective_shape(c)
    target, limit = setting(a, "entropy_target", 0.0), math.log(shape.vocab_size)
    if target >= limit:
        yield ConfigError(
            "algorithm.entropy_target",
            target,
            f"no policy over {shape.vocab_size} tokens has more than {limit:.2f} nats, so the bonus would only grow",
            "write a target between 0.05 and 1, or 0 for off",
        )


def regularizer_pairings(c: RunConfig) -> Errors:
    r = c.regularizer
    if c.kind != "rl":
        return
    beta, estimator = setting(r, "beta", 0.0), getattr(r, "estimator", None)
    if r.name == "none" and beta > 0:
        yield ConfigError(
            "regularizer.beta",
            beta,
            "the regularizer none has no strength",
            "write regularizer.name=rkl (or another), or regularizer.beta=0",
        )
    if r.name != "none" and estimator is not None and (reason := refusal(r.name, estimator)) is not None:
        allowed = [e for e in ESTIMATORS if refusal(r.name, e) is None]
        if estimator in (*ESTIMATORS, "k1"):
            remedy = "write regularizer.estimator=" + " or ".join(allowed)
        else:
            remedy = suggestion(estimator, allowed, "regularizer.estimator=")
        yield ConfigError("regularizer.estimator", estimator, reason, remedy)
    elif setting(r, "place", "loss") == "reward":
        yield from _in_reward(c)
    if setting(r, "target_kl", 0.0) > 0 and getattr(r, "alpha", 0.0) == 1.0:
        yield ConfigError(
            "regularizer.target_kl",
            r.target_kl,
            "at regularizer.alpha=1 the penalty is no penalty: no beta could hold a target",
            "write regularizer.alpha=0.8, or regularizer.target_kl=0",
        )
    if not 0 < setting(r, "beta_gain", 0.1) < 1 / CLIP:
        yield ConfigError(
            "regularizer.beta_gain",
            r.beta_gain,
            f"one step multiplies beta by 1 ± {CLIP:g} times it, which must stay above 0",
            "write regularizer.beta_gain=0.1",
        )
    if setting(r, "target_kl", 0.0) > 0 and beta == 0:
        yield ConfigError(
            "regularizer.target_kl",
            r.target_kl,
            "beta is adapted by factors, and one of 0 stays 0",
            "write regularizer.beta=1 for a start, or regularizer.target_kl=0",
        )


def _in_reward(c: RunConfig) -> Errors:
    update = setting(c.algorithm, "update", "full")
    wrong = (
        (c.regularizer.estimator != "score", f"estimator {c.regularizer.estimator} is a loss and no reward of a token"),
        (setting(c.algorithm, "sequence_ratio", False), f"{c.algorithm.name} gives all tokens of a response one ratio"),
        (update != "full", f"algorithm.update={update} takes away the policy terms that it would stand in"),
        (
            setting(c.algorithm, "mask_truncated", False),
            "algorithm.mask_truncated takes away the policy terms of truncated responses, in which it would stand",
        ),
    )
    remedies = ("regularizer.estimator=score", *["regularizer.place=loss"] * 3)
    for (is_wrong, reason), remedy in zip(wrong, remedies, strict=True):
        if is_wrong:
            yield ConfigError("regularizer.place", "reward", reason, f"write {remedy}")
