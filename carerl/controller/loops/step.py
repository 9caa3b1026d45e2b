"""One step, phase by phase. A loop calls the phases, and decides in which order."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from carerl.actors.crew import TrainingCrew
from carerl.actors.handles.base import HeldBatch
from carerl.algorithms import Algorithm
from carerl.backends.recorder import span
from carerl.controller import best, checkpoints, weights
from carerl.controller.context import Clock, Context
from carerl.controller.loops.anchoring import OfStep, anchor_metrics
from carerl.controller.loops.distilling import hybrid, trace_metrics
from carerl.controller.loops.feedback import asks_itself, feedback
from carerl.controller.rollout_table import rollout_rows, token_scores
from carerl.controller.sampling import Rollouts, roll_out, rollout_metrics
from carerl.controller.schedule import learning_rate
from carerl.loss.anchored import Anchor, anchor_rows
from carerl.loss.batching import StepBatch, plan
from carerl.loss.distilled import Trace
from carerl.loss.objective import needs_hidden
from carerl.records.splitting import Splitter
from carerl.runs.tables import write_rollouts


class PlannedStep:
    """Carries out what every loop does with an update that is planned: number ``number`` of the run, from 1. A clock
    times its phases (``time/…``)."""

    def __init__(self, context: Context[TrainingCrew], number: int) -> None:
        self.number = number
        self._context = context
        self._config, self._crew = context.config, context.crew
        self._clock = Clock(context.display)

    def hand_over(self) -> None:
        """Has engines that share the learner's GPUs sleep until the next sync. Counts as part of ``time/sync``."""
        if self._crew.engines.shared:
            with self._clock.phase("sync"):
                self._crew.engines.sleep()

    def update(self, planned: StepBatch, held: HeldBatch) -> dict[str, float]:
        """Takes the optimizer steps, then adapts the strengths of the loss's components. Returns metrics of both."""
        with self._clock.phase("train"):
            metrics = self.optimize(planned, held, self.number, self._due(self._config.tracking.part_norms_every))
            metrics |= self._context.loop.adapt(self._config, metrics)
        return metrics

    def optimize(self, planned: StepBatch, held: HeldBatch, at: float, part_norms: bool) -> dict[str, float]:
        """Takes the optimizer steps. Returns their metrics. ``at``: how many steps of the run are done after them, a
        part of one included; the learning rate follows from it."""
        rate = learning_rate(at, self._config.steps, self._config.learner)
        update, strengths = self._crew.learner.update, self._context.loop.strengths
        metrics = update(held, rate, strengths, part_norms) if planned.minibatches else {}
        return metrics | {"train/empty_minibatches": planned.empty}

    def sync(self) -> dict[str, float]:
        """Brings the new weights to the engines, and in some steps proves that they arrived. Returns metrics."""
        with self._clock.phase("sync"):
            metrics = weights.synchronise(self._crew, version=self.number)
            if weights.probe_due(self.number, self._config):
                metrics |= weights.probe(self._crew, self._context.task, self._config)
        return metrics

    def finish(self, metrics: dict[str, float], tokens: int) -> None:
        """Ends the clock and logs the step's metrics. ``tokens``: response tokens of the step."""
        context = self._context
        memory = {"system/rss_gib": self._crew.learner.rss_gib()} if self.number % 10 == 0 else {}
        metrics |= memory | self._clock.metrics(tokens)
        last = self.number == self._config.steps
        metrics |= context.first_steps.peaks(self._crew, self._config, context.display, last)
        context.step = self.number
        context.trackers.log(self.number, metrics)
        context.display.step(self.number, metrics)

    def save_start(self) -> None:
        """Begins a checkpoint of the weights before this step, if there is none: a step that is stopped halfway goes on
        from there."""
        if not checkpoints.begun(self._context, self.number - 1):
            with span("checkpoint"):
                checkpoints.begin(self._context, self.number - 1)

    def keep(self) -> bool:
        """Completes a checkpoint that has been written meanwhile. Begins one if it is due, if the run ends, or if a
        stop was asked for. Returns True for a stop."""
        checkpoints.poll(self._context)
        config, every, stopping = self._config, self._config.checkpoint.every, bool(self._context.stop)
        if stopping or self.number == config.steps or (every and self.number % every == 0):
            self._context.display.stage("checkpoint")
            with span("checkpoint"):
                checkpoints.begin(self._context, self.number, kept=lambda: best.forget(self._context.run))
        return stopping

    def _due(self, every: int) -> bool:
        """Returns True in every ``every``-th step; never if it is 0."""
        return bool(every and self.number % every == 0)


class Step(PlannedStep):
    """Carries out one step of RL."""

    def __init__(self, context: Context[TrainingCrew], algorithm: Algorithm, number: int) -> None:
        super().__init__(context, number)
        self._algorithm = algorithm
        self._hidden = needs_hidden(context.config.regularizer, context.config.anchor.exact)
        self._own: dict[str, float] = {}  # metrics of what the step is told by its own responses

    def sample(self) -> Rollouts:
        """Has the engines sample responses and the graders grade them, for as many prompts as the step takes."""
        return roll_out(self._context, self._algorithm, self.number, self._clock.phase)

    def anchors(self, of_step: OfStep) -> Sequence[Anchor]:
        """Returns the step's anchors; the policy answers its own now, and those count as ``time/anchors``."""
        if self._config.anchor.on and not self._config.anchor.drawn_first:
            with self._clock.phase("anchors"):
                return of_step(self.number)
        return of_step(self.number)

    def feedback(self, rollouts: Rollouts, splitter: Splitter | None) -> None:
        """Has the policy judge its own responses, where the run needs that: internal rewards, and gains, for which
        ``splitter`` cuts them into steps."""
        if asks_itself(self._config):
            with self._clock.phase("feedback"):
                self._own |= feedback(self._context, rollouts.generated, self.number, splitter)

    def plan(self, rollouts: Rollouts, anchors: Sequence[Anchor] = (), traces: Sequence[Trace] = ()) -> StepBatch:
        """Plans the update: rows with advantages, those of anchors and those of the step's share of ``traces``, dealt
        to minibatches. Counts as part of ``time/reference``."""
        config = self._config
        with self._clock.phase("reference"):
            mixed, metrics = hybrid(self._context, traces, rollouts.groups, self.number)
            self._own |= metrics
            settings = config.rollout.temperature, config.seed, self.number, config.decision, anchors, mixed
            return plan(rollouts.groups, self._algorithm, *settings)

    def reference(self, planned: StepBatch) -> HeldBatch:
        """Puts the batch into the object store, and has the reference score it in the steps that need scores: all rows
        for a penalty or a report, anchors alone for their own divergence."""
        with self._clock.phase("reference"):
            held = self._crew.learner.hold(planned.batch, planned.minibatches)
            if self._reference_due():
                held = self._crew.reference.streams(held, self._hidden)
            elif self._config.anchor.exact and (rows := anchor_rows(planned.batch)):
                held = self._crew.reference.streams(held, True, sorted(rows))
        return held

    def table_scores(self, held: HeldBatch) -> dict[str, Tensor]:
        """Returns (B, T) scores of each token for the rollout table, under the learner's weights as they are; empty in
        a step without a table."""
        if not self._tabled:
            return {}
        with self._clock.phase("table"):
            return token_scores(self._crew, held)

    def log(self, metrics: dict[str, float], rollouts: Rollouts, planned: StepBatch) -> None:
        """Ends the clock and logs the step's metrics. Raises MismatchError if engine and learner disagree on the
        rollouts, after the metrics that show it are logged."""
        metrics |= rollout_metrics(rollouts, planned) | self._of_added(planned) | self._own
        self.finish(metrics, rollouts.tokens)
        weights.check_rollouts(self.number, metrics, self._config)

    def write_table(self, rollouts: Rollouts, planned: StepBatch, scores: dict[str, Tensor]) -> None:
        """Writes the rollout table, in the steps that have one."""
        if self._tabled:
            rows = rollout_rows(self._context.tokenizer.decode, self.number, rollouts, planned, scores)
            write_rollouts(self._context.run.rollout_file(self.number), rows)

    def _of_added(self, planned: StepBatch) -> dict[str, float]:
        return anchor_metrics(self._config, planned) | trace_metrics(self._config, planned)

    @property
    def _tabled(self) -> bool:
        return self._due(self._config.tracking.rollouts_every)

    def _reference_due(self) -> bool:
        """Returns True in every step of a run with a penalty; in another now and then, to report reverse KL."""
        every = self._config.reference.report_every
        return bool(self._config.regularizer.beta > 0 or (every and (self.number == 1 or self.number % every == 0)))
