"""The reinforcement learning loop. Synchronous, and the oracle for any pipelined one."""

from __future__ import annotations

from carerl.actors.crew import TrainingCrew
from carerl.algorithms import ALGORITHMS
from carerl.controller import weights
from carerl.controller.context import Context
from carerl.controller.evaluation import evaluate_if_due, evaluated
from carerl.controller.loops.step import Step


def begin(context: Context[TrainingCrew], start: int) -> None:
    """Brings the weights to the engines, proves that they arrived, and evaluates the model that the run starts from."""
    weights.synchronise(context.crew, version=start)
    first = weights.probe(context.crew, context.task, context.config)
    if start == 0:
        context.trackers.log(0, first)
    if not evaluated(context.run, start):  # or a stop cut it short
        with context.profiler.window("evaluation"):
            evaluate_if_due(context, start)


def train(context: Context[TrainingCrew], start: int) -> int:
    """Takes steps ``start + 1`` … ``steps``; returns the last step done, fewer if a stop was asked for."""
    config = context.config
    algorithm = ALGORITHMS[config.algorithm.name].build(config.algorithm)
    for number in range(start + 1, config.steps + 1):
        context.profiler.reach(number)
        step = Step(context, algorithm, number)
        rollouts = step.sample()
        planned, held = step.plan(rollouts)
        scores = step.score_table(held)
        metrics = step.update(planned, held)
        metrics |= step.sync()
        step.log(metrics, rollouts, planned)
        step.write_table(rollouts, planned, scores)
        evaluate_if_due(context, number)
        if step.keep():
            return number
    return config.steps
