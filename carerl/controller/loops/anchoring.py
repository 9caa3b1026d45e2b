"""Gives a step its anchors: prompts that no reward sees, with responses of the reference or of the policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from carerl.actors.crew import TrainingCrew
from carerl.config.schema import RunConfig
from carerl.controller.context import Context
from carerl.controller.preparation import stop_ids
from carerl.loss.anchored import Anchor, anchor_rows
from carerl.loss.batching import StepBatch
from carerl.runs.anchors import kept_anchors, write_anchors
from carerl.seeds import derived_seed
from carerl.tasks.base import AnchorTask, prompts_at
from carerl.types import Example, Sampling

DRAW_STREAM = 16  # of the run's seed; with a step's, of the step's
BLOCK = 4096  # prompts that the engines are given at a time; a stop is answered between two blocks

OfStep = Callable[[int], Sequence[Anchor]]
"""Returns the anchors of a step, whose number is counted from 1."""


def anchors(context: Context[TrainingCrew], start: int) -> OfStep | None:
    """Returns what gives a step its anchors. Those of the reference are drawn now in a fresh run, whose engines hold
    its weights, and read from the run's directory in one that is resumed. A run that is made longer uses them again
    from the first on. Returns None if a stop was asked for meanwhile. Raises RunError as :func:`kept_anchors`."""
    config = context.config
    if not config.anchor.on:
        return lambda number: ()
    each = config.anchor.per_step
    if not config.anchor.drawn_first:
        return lambda number: _answered(context, (number - 1) * each, each, derived_seed(config.seed, number))
    drawn = _of_reference(context, start)
    if drawn is None:
        return None
    return lambda number: [drawn[((number - 1) * each + k) % len(drawn)] for k in range(each)]


def _of_reference(context: Context[TrainingCrew], start: int) -> list[Anchor] | None:
    """Returns the reference's anchors of all steps; None for a stop."""
    config, file = context.config, context.run.anchors
    if start:
        return kept_anchors(file, config.anchor.per_step)
    began = time.monotonic()
    total, drawn = config.steps * config.anchor.per_step, []
    context.display.stage("anchors")
    for first in range(0, total, BLOCK):
        drawn += _answered(context, first, min(BLOCK, total - first), config.seed)
        context.display.progress(len(drawn), total, "anchors answered by the reference")
        if context.stop:
            return None
    write_anchors(file, drawn, context.tokenizer.decode)
    context.trackers.log(0, {"time/anchors_first": time.monotonic() - began})
    return drawn


def _answered(context: Context[TrainingCrew], first: int, n: int, seed: int) -> list[Anchor]:
    """Has the engines answer ``n`` prompts from position ``first`` on."""
    config = context.config
    assert isinstance(context.task, AnchorTask)
    prompts = prompts_at(context.task, config.anchor, first, n)
    sampling = Sampling(
        n=1,
        temperature=config.rollout.temperature,
        max_new_tokens=config.anchor.max_new_tokens,
        seed=derived_seed(derived_seed(seed, DRAW_STREAM), first),
        stop_ids=stop_ids(config, context.task),
    )
    asked = [Example(f"anchor/{first + k}", prompt, "") for k, prompt in enumerate(prompts)]
    groups = context.crew.engines.generate(asked, sampling)
    return [Anchor(tuple(group.example.prompt_ids), tuple(group.samples[0].response_ids)) for group in groups]


def anchor_metrics(config: RunConfig, planned: StepBatch) -> dict[str, float]:
    """Returns how many tokens a step trains, and how many of them are anchors'; the latter in a run with anchors."""
    trained = planned.tokens
    if not config.anchor.on:
        return {"train/tokens": trained}
    once, dealt = planned.tokens_of(anchor_rows(planned.batch))
    return {"train/tokens": trained, "anchor/tokens": once, "anchor/share": dealt / max(trained, 1)}
