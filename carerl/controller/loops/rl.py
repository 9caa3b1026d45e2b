"""The reinforcement learning loop: a phase a line, one after the other. It is the oracle for any pipelined loop.

Who waits for whom. The driver runs the phases in this order, and each phase waits for its own actors:

anchors    before the first step: the engines, which hold the reference's weights then. Or the policy's, in each step.
sample     engines and graders. Engines work in rounds; while one round's groups are graded, the next round is decoded.
hand over  engines that share their GPUs with the learner, until they sleep. The sync wakes them again.
feedback   the learner, where responses are rewarded or weighed by what the policy itself says of them.
plan       nobody: the driver turns groups into rows and minibatches.
reference  the reference, until its scores are in the object store.
update     every rank of the learner, until the last optimizer step.
sync       the learner, which sends, and the engines, which take the weights part by part.

So nothing runs ahead: rollouts are always sampled by the newest weights, and engines are idle while the learner trains.
A call that ends wakes the driver; a call that does not end is noticed by :mod:`carerl.actors.health.asking`. A stop
that was asked for (:mod:`carerl.controller.ending.stopping`) is answered once a step, in ``keep``, which
begins a checkpoint. Its files are written while the next steps are taken; whoever ends a run waits for them.
"""

from __future__ import annotations

from carerl.actors.crew import TrainingCrew
from carerl.algorithms import ALGORITHMS
from carerl.controller import weights
from carerl.controller.context import Context
from carerl.controller.evaluation import evaluate_if_due, evaluated
from carerl.controller.loops.anchoring import anchors
from carerl.controller.loops.distilling import traces
from carerl.controller.loops.step import Step
from carerl.controller.rounds.scoring import cuts_responses, splitter_of


def begin(context: Context[TrainingCrew], start: int) -> None:
    """Brings the weights to the engines, proves that they arrived, and evaluates the model that the run starts from."""
    weights.synchronise(context.crew, version=start)
    first = weights.probe(context.crew, context.task, context.config)
    if start == 0 and not context.config.resume:  # a run that is resumed before its first step has logged it
        context.trackers.log(0, first)
    if not evaluated(context.run, start):  # a resumed run has it already, unless a stop cut it short
        with context.profiler.window("evaluation"):
            evaluate_if_due(context, start)


def train(context: Context[TrainingCrew], start: int) -> int:
    """Takes steps ``start + 1`` … ``steps``. Returns the last step done: an earlier one if a stop was asked for."""
    config = context.config
    algorithm = ALGORITHMS[config.algorithm.name].build(config.algorithm)
    of_step = anchors(context, start)
    if of_step is None:
        return start
    labelled = traces(config, context.task)
    splitter = splitter_of(config, context.task, context.tokenizer) if cuts_responses(config) else None
    for number in range(start + 1, config.steps + 1):
        context.profiler.reach(number)
        step = Step(context, algorithm, number)
        rollouts = step.sample()
        anchored = step.anchors(of_step)
        step.hand_over()
        step.feedback(rollouts, splitter)
        planned = step.plan(rollouts, anchored, labelled)
        held = step.reference(planned)
        scores = step.table_scores(held)  # before the update, under the weights that sampled
        metrics = step.update(planned, held)
        metrics |= step.sync()
        step.log(metrics, rollouts, planned)
        step.write_table(rollouts, planned, scores)
        evaluate_if_due(context, number)
        if step.keep():
            return number
    return config.steps
