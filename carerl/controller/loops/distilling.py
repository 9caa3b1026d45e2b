"""Gives a step its labelled traces, and the weights of traces and responses (:mod:`carerl.distillation`)."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.actors.crew import TrainingCrew
from carerl.config.check.distillation import labelled_questions
from carerl.config.schema import RunConfig
from carerl.controller.context import Context
from carerl.distillation import response_weights, shuffled, trace_weight
from carerl.loss.added import added_rows
from carerl.loss.anchored import anchor_rows
from carerl.loss.batching import StepBatch
from carerl.loss.distilled import Hybrid, Trace
from carerl.seeds import derived_seed
from carerl.tasks import Task
from carerl.tasks.base import TracesTask
from carerl.types import Group

SHUFFLE_STREAM = 17  # of the step's seed


def traces(config: RunConfig, task: Task) -> list[Trace]:
    """Returns the labelled traces of a run; none where it learns none."""
    if not config.distillation.learns:
        return []
    assert isinstance(task, TracesTask), "check_task has refused others"
    return [Trace(prompt, response) for prompt, response in task.traces(labelled_questions(config, task))]


def of_step(found: Sequence[Trace], number: int, each: int) -> list[Trace]:
    """Returns the ``each`` traces of step ``number``, counted from 1. They come in their order, again and again."""
    return [found[((number - 1) * each + k) % len(found)] for k in range(each)] if found else []


def trace_metrics(config: RunConfig, planned: StepBatch) -> dict[str, float]:
    """Returns how many tokens the step's traces have, and how many of those trained are theirs; nothing in a run
    without traces."""
    if not config.distillation.learns:
        return {}
    once, dealt = planned.tokens_of(added_rows(planned.batch) - anchor_rows(planned.batch))
    return {"distillation/tokens": once, "distillation/share": dealt / max(planned.tokens, 1)}


def hybrid(
    context: Context[TrainingCrew], found: Sequence[Trace], groups: Sequence[Group], number: int
) -> tuple[Hybrid | None, dict[str, float]]:
    """Returns the traces of a step, and how traces and responses are weighed in it, with metrics of the weights. Each
    sample gets its weight. None in a run without distillation."""
    config = context.config.distillation
    if not config.on:
        return None, {}
    own = of_step(found, number, config.per_step)
    if not config.gains:
        return Hybrid(own, config.weight), {}
    samples = [sample for group in groups for sample in group.samples]
    gains = [sample.gain for sample in samples]
    if config.shuffle:
        gains = shuffled(gains, derived_seed(derived_seed(context.config.seed, number), SHUFFLE_STREAM))
    weights, of_traces = response_weights(gains), trace_weight(gains, config.floor)
    for sample, weight in zip(samples, weights, strict=True):
        sample.weight = weight
    metrics = {"distillation/response_weight": sum(weights) / len(weights), "distillation/trace_weight": of_traces}
    return Hybrid(own, config.weight * of_traces, weights), metrics
