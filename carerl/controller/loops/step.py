"""One step of RL, phase by phase: each is a verb, and the loops say in which order they come."""

from __future__ import annotations

from torch import Tensor

from carerl.actors.crew import TrainingCrew
from carerl.actors.handles.base import HeldBatch
from carerl.algorithms import Algorithm
from carerl.controller import best, checkpoints, weights
from carerl.controller.context import Clock, Context
from carerl.controller.rollout_table import rollout_rows, token_scores
from carerl.controller.sampling import Rollouts, roll_out, rollout_metrics
from carerl.controller.schedule import learning_rate
from carerl.loss.batching import StepBatch, plan
from carerl.loss.objective import needs_hidden
from carerl.runs.tables import write_rollouts


class Step:
    """A step under way: its number, and the clock that times its phases."""

    def __init__(self, context: Context[TrainingCrew], algorithm: Algorithm, number: int) -> None:
        self.number = number
        self._context, self._algorithm = context, algorithm
        self._config, self._crew = context.config, context.crew
        self._hidden = needs_hidden(context.config.regularizer)
        self._clock = Clock(context.display)

    def sample(self) -> Rollouts:
        """Has prompts sampled and graded, as many as the step takes."""
        return roll_out(self._context, self._algorithm, self.number, self._clock.phase)

    def plan(self, rollouts: Rollouts) -> tuple[StepBatch, HeldBatch]:
        """Plans the update, and has the reference score the batch where it is due."""
        config = self._config
        with self._clock.phase("reference"):
            planned = plan(rollouts.groups, self._algorithm, config.rollout.temperature, config.seed, self.number)
            held = self._crew.learner.hold(planned.batch)
            if self._reference_due():
                held = self._crew.reference.score(held, self._hidden)
        return planned, held

    def score_table(self, held: HeldBatch) -> dict[str, Tensor]:
        """Returns the token scores of the rollout table, where the step has one. Comes before the update: under the
        weights that sampled."""
        if not self._tabled:
            return {}
        with self._clock.phase("table"):
            return token_scores(self._crew, held)

    def update(self, planned: StepBatch, held: HeldBatch) -> dict[str, float]:
        """Takes the optimizer steps, and adapts the strengths of the loss's components; returns metrics of both."""
        config, loop = self._config, self._context.loop
        with self._clock.phase("train"):
            rate = learning_rate(self.number, config.steps, config.learner)
            parts = planned.minibatches
            metrics = self._crew.learner.update(held, parts, rate, loop.strengths) if parts else {}
            metrics |= {"train/empty_minibatches": planned.empty}
            metrics |= loop.adapt(config, metrics)
        return metrics

    def sync(self) -> dict[str, float]:
        """Brings the new weights to the engines, and probes them where that is due."""
        with self._clock.phase("sync"):
            weights.synchronise(self._crew, version=self.number)
            metrics: dict[str, float] = {"sync/version": self.number}
            if weights.probe_due(self.number, self._config):
                metrics |= weights.probe(self._crew, self._context.task, self._config)
        return metrics

    def log(self, metrics: dict[str, float], rollouts: Rollouts, planned: StepBatch) -> None:
        """Ends the step's clock and logs everything. Raises MismatchError once what it complains of is on record."""
        context, crew = self._context, self._crew
        memory = {"system/rss_gib": crew.learner.rss_gib()} if self.number % 10 == 0 else {}
        metrics |= rollout_metrics(rollouts, planned) | memory | self._clock.metrics(rollouts.tokens)
        context.step = self.number
        context.trackers.log(self.number, metrics)
        context.display.step(self.number, metrics)
        weights.check_rollouts(self.number, metrics, self._config)

    def write_table(self, rollouts: Rollouts, planned: StepBatch, scores: dict[str, Tensor]) -> None:
        """Writes the rollout table, where the step has one."""
        if self._tabled:
            rows = rollout_rows(self._context.tokenizer.decode, self.number, rollouts, planned, scores)
            write_rollouts(self._context.run.rollout_file(self.number), rows)

    def keep(self) -> bool:
        """Saves a checkpoint where one is due; returns True where a stop was asked for."""
        config, every, stopping = self._config, self._config.checkpoint.every, bool(self._context.stop)
        if stopping or self.number == config.steps or (every and self.number % every == 0):
            self._context.display.stage("checkpoint")
            checkpoints.save(self._context, self.number)
            best.forget(self._context.run)
        return stopping

    @property
    def _tabled(self) -> bool:
        every = self._config.tracking.rollouts_every
        return bool(every and self.number % every == 0)

    def _reference_due(self) -> bool:
        """True in every step where there is a penalty, else now and then: reverse KL is reported all the same."""
        every = self._config.reference.report_every
        return bool(self._config.regularizer.beta > 0 or (every and (self.number == 1 or self.number % every == 0)))
