"""The reinforcement learning loop. Synchronous, and the oracle for any pipelined one."""

from __future__ import annotations

from carerl.actors.crew import Crew
from carerl.algorithms import ALGORITHMS, Algorithm
from carerl.config.schema import RunConfig
from carerl.controller import best, checkpoints, weights
from carerl.controller.context import Clock, Context
from carerl.controller.evaluation import evaluate_if_due
from carerl.controller.rollout_table import rollout_rows, token_scores
from carerl.controller.sampling import roll_out, rollout_metrics
from carerl.controller.schedule import learning_rate
from carerl.loss.batching import Minibatch, make_batch, minibatches, normalisers, rows_with_weight
from carerl.loss.objective import needs_hidden
from carerl.runs.tables import write_rollouts
from carerl.seeds import derived_seed
from carerl.types import TokenBatch


def train(context: Context, start: int) -> int:
    """Steps ``start + 1`` … ``steps``; returns the last step done, fewer if a stop was asked for."""
    config, task, crew, loop = context.config, context.task, context.crew, context.loop
    assert crew.reference is not None
    algorithm = ALGORITHMS[config.algorithm.name].build(config.algorithm)
    with_hidden = needs_hidden(config.regularizer)
    for step in range(start + 1, config.steps + 1):
        context.profiler.reach(step)
        clock = Clock(context.display)
        rollouts = roll_out(context, algorithm, step, clock.phase)
        with clock.phase("reference"):
            batch = make_batch(rollouts.groups, algorithm, config.rollout.temperature)
            parts = _minibatches(batch, config, algorithm, step)
            batch_ref, ref_streams = crew.put(batch), []
            if _reference_due(config, step):
                ref_streams = crew.reference.score(batch_ref, batch.rows, with_hidden)
        tabled, scores = bool(config.tracking.rollouts_every and step % config.tracking.rollouts_every == 0), {}
        if tabled:
            with clock.phase("table"):  # before the update: under the weights that sampled
                scores = token_scores(crew, batch, batch_ref, ref_streams, with_hidden)
        with clock.phase("train"):
            rate = learning_rate(step, config.steps, config.learner)
            metrics = crew.learner.update(batch_ref, ref_streams, parts, rate, loop.strengths) if parts else {}
            metrics |= {"train/empty_minibatches": config.algorithm.minibatches * config.algorithm.epochs - len(parts)}
            metrics |= loop.adapt(config, metrics)
        with clock.phase("sync"):
            weights.synchronise(crew, version=step)
            metrics |= {"sync/version": step}
            if weights.probe_due(step, config):
                metrics |= weights.probe(crew, task, config)
        metrics |= rollout_metrics(rollouts, batch) | _memory(crew, step) | clock.metrics(rollouts.tokens)
        context.step = step
        context.trackers.log(step, metrics)
        context.display.step(step, metrics)
        weights.check_rollouts(step, metrics, config)  # once what it complains of is on record
        if tabled:
            rows = rollout_rows(context.tokenizer.decode, step, rollouts, batch, scores)
            write_rollouts(context.run.rollout_file(step), rows)
        evaluate_if_due(context, step)
        every, stopping = config.checkpoint.every, bool(context.stop)
        if stopping or step == config.steps or (every and step % every == 0):
            context.display.stage("checkpoint")
            checkpoints.save(context, step)
            best.forget(context.run)
        if stopping:
            return step
    return config.steps


def _reference_due(config: RunConfig, step: int) -> bool:
    """A penalty needs the reference in every step. Without one it is asked now and then: reverse KL is reported all
    the same."""
    every = config.reference.report_every
    return bool(config.regularizer.beta > 0 or (every and (step == 1 or step % every == 0)))


def _minibatches(batch: TokenBatch, config: RunConfig, algorithm: Algorithm, step: int) -> list[Minibatch]:
    """The optimizer minibatches of every epoch, each with the global counts of its rows. One in which every row was
    dropped is left out: a step along a gradient of 0 would still move the weights, by the optimizer's momentum."""
    parts = [
        part
        for epoch in range(config.algorithm.epochs)
        for part in minibatches(
            batch.rows,
            config.algorithm.group_size,
            config.algorithm.minibatches,
            seed=derived_seed(config.seed, step * config.algorithm.epochs + epoch),
        )
    ]
    chosen = [(part, batch.select(part)) for part in parts]
    return [
        Minibatch(tuple(part), normalisers(rows, algorithm)) for part, rows in chosen if rows_with_weight(rows).any()
    ]


def _memory(crew: Crew, step: int) -> dict[str, float]:
    return {"system/rss_gib": crew.learner.rss_gib()} if step % 10 == 0 else {}
