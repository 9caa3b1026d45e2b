"""Estimates the seconds that anchors add to a step of RL."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from carerl.config.plan.seconds import (
    Work,
    generate_seconds,
    layers_compute_seconds,
    reference_seconds,
    training_head_seconds,
)
from carerl.config.schema import RunConfig

EXACT_PRODUCTS = 2.0  # with the reference's head: in the forward pass, and in the backward pass


def anchor_seconds(work: Work) -> dict[str, float]:
    """Returns the seconds of a step's anchors by stage; nothing without them. What the reference answers before the
    first step is spread over all.

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


def anchor_assumptions(c: RunConfig) -> tuple[str, ...]:
    """Returns in words what the seconds of anchors assume; nothing without them."""
    if not c.anchor.on:
        return ()
    when = "before the first step, spread over all steps" if c.anchor.drawn_first else "in every step"
    return (
        f"anchors' responses of full length, {c.anchor.max_new_tokens} tokens, answered {when}, to prompts as long as "
        "the others",
    )
