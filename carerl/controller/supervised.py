"""Trains on the task's own corpus, through the same learner as everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carerl.actors.handles.learner import Learner
from carerl.backends.recorder import span
from carerl.config.schema import RunConfig
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.schedule import learning_rate
from carerl.loss.batching import Minibatch, Normalisers
from carerl.tasks import SupervisedTask
from carerl.types import TokenBatch

STEPS_PER_CALL = 20  # one call to an actor costs more than one step of a tiny model


@dataclass(frozen=True)
class Watch:
    """Holds functions that follow the training. ``reach`` is called before the steps of a call with the first one,
    ``on_step`` after each step with its metrics, ``on_checkpoint`` when a checkpoint is due."""

    on_step: Callable[[int, dict[str, float]], None]
    on_checkpoint: Callable[[int], None] = lambda step: None
    reach: Callable[[int], None] = lambda step: None


def train(
    config: RunConfig,
    task: SupervisedTask,
    learner: Learner,
    start: int,
    stop: StopFlag,
    watch: Watch,
) -> int:
    """Takes steps ``start + 1`` … ``steps``. Returns the last step done: an earlier one if a stop was asked for. While
    the learner works on the steps of one call, the driver makes the batches of the next."""
    wait: Callable[[], list[dict[str, float]]] | None = None
    done = start
    ready = _prepare(config, task, done + 1)
    while ready:
        watch.reach(done + 1)
        with span("step"):
            wait = learner.update_many(ready)
            with span("batches"):
                following = _prepare(config, task, done + len(ready) + 1)
            with span("train"):
                found = wait()
            with span("log"):
                for metrics in found:
                    done += 1
                    watch.on_step(done, metrics)
        every, stopping = config.checkpoint.every, bool(stop)
        if stopping or done == config.steps or (every and done % every < len(ready)):
            watch.on_checkpoint(done)
        if stopping:
            break
        ready = following
    return done


def _prepare(config: RunConfig, task: SupervisedTask, first: int) -> list[tuple[TokenBatch, list[Minibatch], float]]:
    """Returns batch, minibatches and learning rate of each step of a call; none beyond the last step."""
    steps = []
    for step in range(first, min(first + STEPS_PER_CALL, config.steps + 1)):
        batch = task.sft_batch(step)
        whole = Minibatch(tuple(range(batch.rows)), Normalisers(policy=1.0, regularizer=1.0, ce=1.0))
        steps.append((batch, [whole], learning_rate(step, config.steps, config.learner)))
    return steps
