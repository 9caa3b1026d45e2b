"""The loop of supervised training. It trains a base model, and puts it into the cache at the end."""

from __future__ import annotations

import os

from carerl.actors.crew import LearnerCrew
from carerl.controller import checkpoints, supervised
from carerl.controller.context import Context
from carerl.controller.models import base_model
from carerl.tasks import SupervisedTask


def train(context: Context[LearnerCrew], start: int) -> int:
    """Takes steps ``start + 1`` … ``steps``. Returns the last step done: an earlier one if a stop was asked for."""
    config, learner = context.config, context.crew.learner

    def on_step(step: int, metrics: dict[str, float]) -> None:
        context.step = step
        metrics |= context.first_steps.peaks(context.crew, config, context.display, step == config.steps)
        context.trackers.log(step, metrics)
        context.display.step(step, metrics)

    def reach(step: int) -> None:
        context.profiler.reach(step)
        checkpoints.poll(context)

    def on_checkpoint(step: int) -> None:
        checkpoints.begin(context, step)

    assert isinstance(context.task, SupervisedTask), "check_task has refused others"
    watch = supervised.Watch(on_step, on_checkpoint, reach)
    step = supervised.train(config, context.task, learner, start, context.stop, watch)
    checkpoints.finish(context)
    target = base_model.base_directory(config)
    if step == config.steps and not target.exists():
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        learner.export(partial, context.tokenizer, config.model.dtype)
        base_model.install(partial, target, config, {"steps": config.steps})
        context.display.message(f"base model: {target}")
    return step
