"""Estimates the seconds that a step of RL takes beside its responses: anchors, traces, and what it asks of itself."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from carerl.config.plan.rates import MEAN_RESPONSE
from carerl.config.plan.seconds import (
    Work,
    generate_seconds,
    layers_compute_seconds,
    reference_seconds,
    score_seconds,
    training_head_seconds,
)
from carerl.config.schema import RunConfig

EXACT_PRODUCTS = 2.0  # with the reference's head: in the forward pass, and in the backward pass
ANSWER = 8.0  # tokens of an answer [assumed]


def beside_seconds(work: Work) -> dict[str, float]:
    """Returns the seconds of a step by stage, as far as the run has them: of anchors, of traces, and of scoring its own
    responses."""
    return {**_anchors(work), **_traces(work), **_feedback(work)}


def _anchors(work: Work) -> dict[str, float]:
    """Returns the seconds of a step's anchors. What the reference answers before the first step is spread over all.

    Assumed: every response is of full length, and prompts are as long as the task's own."""
    c, anchor = work.config, work.config.anchor
    if not anchor.on:
        return {}
    own = deepcopy(c)
    own.rollout.max_new_tokens = anchor.max_new_tokens
    of_step = replace(work, config=own, rows=anchor.per_step, response=float(anchor.max_new_tokens))
    at_once = c.steps if anchor.drawn_first else 1
    return {
        "anchors' responses": generate_seconds(of_step, anchor.per_step * at_once) / at_once,
        "anchors' reference": reference_seconds(of_step, True) if anchor.exact else 0.0,
        "anchors' layers": layers_compute_seconds(of_step),
        "anchors' head": training_head_seconds(of_step, EXACT_PRODUCTS if anchor.exact else 0.0),
    }


def _traces(work: Work) -> dict[str, float]:
    """Returns the seconds of a step's traces, which are as long as responses."""
    settings = work.config.distillation
    if not settings.learns or work.config.taught:
        return {}
    of_step = replace(work, rows=settings.per_step)
    return {"traces' layers": layers_compute_seconds(of_step), "traces' head": training_head_seconds(of_step, 0.0)}


def _feedback(work: Work) -> dict[str, float]:
    """Returns the seconds in which the learner scores responses before the update: all of their tokens for an internal
    reward, and for gains their answers, each as often as it may be, after half of the response in the mean."""
    c, found = work.config, {}
    if c.reward is not None and c.reward.scored:
        found["certainty"] = score_seconds(work, 1.0)
    if c.distillation.gains:
        rows = work.rows * c.distillation.supports
        half = replace(work, rows=rows, prompt=work.prompt + work.response / 2, response=ANSWER)
        found["gains"] = score_seconds(half, 1.0)
    return found


def beside_assumptions(c: RunConfig) -> tuple[str, ...]:
    """Returns in words what these seconds assume; nothing where there are none."""
    lines = []
    if c.anchor.on:
        when = "before the first step, spread over all steps" if c.anchor.drawn_first else "in every step"
        lines.append(
            f"anchors' responses of full length, {c.anchor.max_new_tokens} tokens, answered {when}, to prompts as long "
            "as the others"
        )
    if c.distillation.learns and not c.taught:
        lines.append(f"traces as long as responses, {MEAN_RESPONSE:.0%} of their limit")
    if c.distillation.gains:
        lines.append(
            f"each response's answer of {ANSWER:g} tokens is scored {c.distillation.supports} times, after half of the "
            "response in the mean"
        )
    return tuple(lines)
