"""The reinforcement learning loop. Synchronous, and the oracle for any pipelined one."""

from __future__ import annotations

from typing import Any

from carerl.actors.crew import Crew
from carerl.algorithms import ALGORITHMS
from carerl.algorithms.batching import make_batch, minibatches, normalisers
from carerl.algorithms.objective import needs_hidden
from carerl.backends.engines import request_seed
from carerl.backends.learners import Minibatch
from carerl.config.schema import RunConfig
from carerl.controller import checkpoints, weights
from carerl.controller.context import Clock, Context
from carerl.controller.evaluation import evaluate
from carerl.controller.schedule import learning_rate
from carerl.report import write_rollouts
from carerl.types import Group, Outcome, RunError, Sampling, TokenBatch


class MismatchError(RunError):
    """The engines sample from a distribution too far from the one that is trained."""


def train(context: Context, start: int) -> int:
    """Steps ``start + 1`` … ``steps``; returns the last step done, fewer if a stop was asked for."""
    config, task, crew = context.config, context.task, context.crew
    assert crew.rollout is not None and crew.grading is not None and crew.reference is not None
    algorithm = ALGORITHMS[config.algorithm.name].build(config.algorithm)
    with_hidden = needs_hidden(config.regularizer)
    for step in range(start + 1, config.steps + 1):
        clock = Clock(context.display)
        with clock.phase("generate"):
            examples = task.train_examples(step, config.prompts_per_step)
            groups = crew.rollout.generate(examples, _sampling(config, step, task.stop_ids))
        with clock.phase("reward"):
            groups = crew.grading.grade(groups)
        with clock.phase("reference"):
            batch = make_batch(groups, algorithm, config.rollout.temperature)
            parts = _minibatches(batch, config, algorithm, step)
            batch_ref = crew.put(batch)
            ref_streams = crew.reference.score(batch_ref, batch.rows, with_hidden)
            crew.wait(ref_streams)
        with clock.phase("train"):
            metrics = crew.learner.update(
                batch_ref, ref_streams, parts, learning_rate(step, config.steps, config.learner)
            )
        with clock.phase("sync"):
            weights.synchronise(crew, version=step)
            metrics |= {"sync/version": step}
            if weights.probe_due(step, config):
                metrics |= weights.probe(crew, task, config)
        metrics |= rollout_metrics(groups) | _memory(crew, step) | clock.metrics(batch.response_tokens)
        _check_mismatch(metrics, config, step)
        context.step = step
        context.trackers.log(step, metrics)
        context.display.step(step, metrics)
        if config.tracking.rollouts_every and step % config.tracking.rollouts_every == 0:
            write_rollouts(context.run.rollout_file(step), rollout_rows(context, step, groups, batch))
        if step == config.steps:
            if config.evaluation.at_end:
                evaluate(context, step, config.evaluation.questions)
        elif config.evaluation.every and step % config.evaluation.every == 0:
            evaluate(context, step, config.evaluation.questions_between)
        every, stopping = config.checkpoint.every, bool(context.stop)
        if stopping or step == config.steps or (every and step % every == 0):
            context.display.stage("checkpoint")
            checkpoints.save(context, step)
        if stopping:
            return step
    return config.steps


def _sampling(config: RunConfig, step: int, stop_ids: tuple[int, ...]) -> Sampling:
    return Sampling(
        n=config.algorithm.group_size,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=request_seed(config.seed, step),
        top_p=config.rollout.top_p,
        top_k=config.rollout.top_k,
        stop_ids=stop_ids,
    )


def _minibatches(batch: TokenBatch, config: RunConfig, algorithm: Any, step: int) -> list[Minibatch]:
    """The optimizer minibatches of every epoch, each with the global counts of its rows."""
    rows = [
        part
        for epoch in range(config.algorithm.epochs)
        for part in minibatches(
            batch.rows,
            config.algorithm.group_size,
            config.algorithm.minibatches,
            seed=request_seed(config.seed, step * config.algorithm.epochs + epoch),
        )
    ]
    return [Minibatch(tuple(part), normalisers(batch.select(part), algorithm)) for part in rows]


def rollout_metrics(groups: list[Group]) -> dict[str, float]:
    samples = [sample for group in groups for sample in group.samples]
    tokens = sum(len(sample.response_ids) for sample in samples)

    def share(outcome: Outcome) -> float:
        return sum(sample.outcome is outcome for sample in samples) / len(samples)

    return {
        "rollout/reward": sum(sample.reward or 0.0 for sample in samples) / len(samples),
        "rollout/accuracy": share(Outcome.CORRECT),
        "rollout/response_length": tokens / len(samples),
        "rollout/truncated_fraction": sum(sample.truncated for sample in samples) / len(samples),
        "rollout/unparsed_fraction": share(Outcome.UNPARSED),
        "rollout/invalid_fraction": share(Outcome.INVALID),
        "rollout/zero_variance_fraction": sum(len({sample.reward for sample in group.samples}) == 1 for group in groups)
        / len(groups),
        "rollout/tokens": tokens,
    }


def rollout_rows(context: Context, step: int, groups: list[Group], batch: TokenBatch) -> list[dict[str, Any]]:
    """One dict for each sample, as the rollout tables hold them."""
    decode = context.tokenizer.decode
    assert batch.advantages_BT is not None
    rows: list[dict[str, Any]] = []
    for group in groups:
        for number, sample in enumerate(group.samples):
            length = len(sample.response_ids)
            rows.append(
                {
                    "step": step,
                    "example_id": sample.example_id,
                    "sample": number,
                    "prompt": decode(list(group.example.prompt_ids)),
                    "response": decode(list(sample.response_ids)),
                    "gold": group.example.gold,
                    "answer": sample.answer,
                    "outcome": str(sample.outcome),
                    "correct": sample.correct,
                    "reward": sample.reward,
                    "advantage": float(batch.advantages_BT[len(rows), 0]) if length else None,
                    "confidence": sample.confidence,
                    "tokens": length,
                    "mean_logprob": sum(sample.rollout_logprobs) / length if length else None,
                    "weight_version": sample.weight_version,
                }
            )
    return rows


def _memory(crew: Crew, step: int) -> dict[str, float]:
    return {"system/rss_gib": crew.learner.rss_gib()} if step % 10 == 0 else {}


def _check_mismatch(metrics: dict[str, float], config: RunConfig, step: int) -> None:
    gap, limit = metrics.get("rollout/mismatch_mean", 0.0), config.sync.mismatch_abort
    if not gap <= limit:
        raise MismatchError(
            f"step {step}: rollouts differ from the learner by {gap:.3g} nats a token in the mean "
            f"(sync.mismatch_abort={limit:g}): engine and learner do not run the same model"
        )
