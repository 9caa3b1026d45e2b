"""The loop of supervised finetuning: the learner learns the responses that a task has for its training questions.

Questions come in the order of RL, from the same data position, so that runs of both kinds with as many prompts a step
see the same ones. A question without a response to learn is skipped, and the next one takes its place: of 7,500, MATH
has two. The engines are needed for evaluations alone, and get weights only before one.

With ``distillation.name=mixture`` the labelled traces are all that is learned, again and again: the run of few traces
that mixtures are compared with.

The loss is the cross-entropy of response tokens, the end token included, averaged over all tokens of the step. One
optimizer step is taken in each.
"""

from __future__ import annotations

from collections.abc import Sequence

from carerl.actors.crew import TrainingCrew
from carerl.controller.context import Context
from carerl.controller.evaluation import evaluate_if_due, questions_due
from carerl.controller.loops.distilling import of_step, traces
from carerl.controller.loops.step import PlannedStep
from carerl.loss.batching import StepBatch, plan_supervised
from carerl.loss.distilled import Trace
from carerl.tasks import TaughtTask


class TaughtStep(PlannedStep):
    """Carries out one step of supervised finetuning."""

    def plan(self, labelled: Sequence[Trace]) -> StepBatch:
        """Plans the update from the next training questions, and moves the data position. ``labelled``: the
        traces of a run that learns those alone."""
        task, loop = self._context.task, self._context.loop
        if labelled:
            loop.position += self._config.prompts_per_step
            own = of_step(labelled, self.number, self._config.prompts_per_step)
            return plan_supervised([(trace.prompt_ids, trace.response_ids) for trace in own])
        assert isinstance(task, TaughtTask), "check_task has refused others"
        examples = task.train_examples(loop.position, self._config.prompts_per_step)
        loop.position += len(examples)
        return plan_supervised([(example.prompt_ids, task.target(example)) for example in examples])


def train(context: Context[TrainingCrew], start: int) -> int:
    """Takes steps ``start + 1`` … ``steps``. Returns the last step done: an earlier one if a stop was asked for."""
    config = context.config
    labelled = traces(config, context.task)
    for number in range(start + 1, config.steps + 1):
        context.profiler.reach(number)
        step = TaughtStep(context, number)
        step.hand_over()
        planned = step.plan(labelled)
        metrics = step.update(planned, context.crew.learner.hold(planned.batch, planned.minibatches))
        if questions_due(config, number) is not None:
            metrics |= step.sync()
        step.finish(metrics, planned.batch.response_tokens)
        evaluate_if_due(context, number)
        if step.keep():
            return number
    return config.steps
