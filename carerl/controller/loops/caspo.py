"""The loop of rounds of preferences (CASPO, arXiv 2605.07353; step-DPO and outcome-DPO are settings of it).

A step of the run is a round. Who waits for whom:

gather     engines, graders, the learner that scores, and who judges: responses, their steps, verdicts and pairs, each
           on disk once it is there (:mod:`carerl.controller.rounds.gathering`). The pairs' reference is the policy at
           the round's start, so that every round has a new one.
hand over  engines that share their GPUs with the learner, until they sleep. The sync wakes them again.
learn      every rank of the learner: optimizer steps of DPO with an anchor.
sync       the learner, which sends, and the engines.

A stop is answered within a round as well: while it is gathered, what is there is kept, and between two optimizer steps.
The run then goes on from the checkpoint at the round's start, which is there before anything is drawn, takes what has
been gathered, and takes the round's optimizer steps anew.
"""

from __future__ import annotations

from carerl.actors.crew import TrainingCrew
from carerl.controller.context import Context
from carerl.controller.evaluation import evaluate_if_due
from carerl.controller.loops.step import PlannedStep
from carerl.controller.rounds.gathering import Gathered, Gathering
from carerl.controller.rounds.learning import learn
from carerl.loss.batching import StepBatch


class Round(PlannedStep):
    """Carries out one round."""

    def gather(self) -> Gathered | None:
        """Has responses drawn, judged and paired. Returns None if a stop was asked for."""
        self.save_start()
        return Gathering(self._context, self.number, self._clock).gather()

    def learn(self, gathered: Gathered) -> dict[str, float] | None:
        """Takes the round's optimizer steps. Returns their metrics; None if a stop was asked for."""
        context, learner = self._context, self._crew.learner
        if not gathered.pairs:
            context.display.message(f"round {self.number} has no pairs: nothing is learned in it")

        def update(planned: StepBatch, done: float, first: bool) -> dict[str, float]:
            context.display.progress(round(100 * done), 100, f"optimizer steps of round {self.number}")
            held = learner.hold(planned.batch, planned.minibatches)
            part_norms = first and self._due(self._config.tracking.part_norms_every)
            return self.optimize(planned, held, self.number - 1 + done, part_norms)

        with self._clock.phase("train"):
            return learn(learner, self._config, self.number, gathered.pairs, update, lambda: not context.stop)


def train(context: Context[TrainingCrew], start: int) -> int:
    """Takes rounds ``start + 1`` … ``steps``. Returns the last one done: an earlier one if a stop was asked for."""
    config = context.config
    for number in range(start + 1, config.steps + 1):
        context.profiler.reach(number)
        step = Round(context, number)
        gathered = step.gather()
        if gathered is None:
            return number - 1
        step.hand_over()
        learned = step.learn(gathered)
        if learned is None:
            return number - 1
        metrics = gathered.metrics | learned | step.sync()
        context.loop.position = (number + 1) * config.prompts_per_step
        step.finish(metrics, gathered.tokens)
        evaluate_if_due(context, number)
        if step.keep():
            return number
    return config.steps
