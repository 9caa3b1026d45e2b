"""Sends weights from learner to engines, and proves by two comparisons that they arrived.

The version of the weights is the number of loop steps that they have been through. The probe samples a few responses
right after a sync and compares the engine's log-probs with the learner's. It notices a layer that the engine does not
use, a tied head, or cached prefixes of older weights. The other comparison costs nothing: the learner scores every
step's rollouts anyway. :mod:`carerl.loss.parity` says what counts as a fault. Log-probs do not have to show that every
tensor was sent: :mod:`carerl.backends.transfer.digest` checks that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from carerl.actors.crew import TrainingCrew
from carerl.config.schema import RunConfig
from carerl.controller.preparation import stop_ids
from carerl.loss.packing import pack_rows
from carerl.loss.parity import GapLimits, Gaps, GapStatistics, fault, limits_for
from carerl.tasks import Task
from carerl.types import RunError, Sampling


class ParityError(RunError):
    """Says that engine and learner disagree about the same weights, right after a sync."""


class MismatchError(RunError):
    """Says that a step's rollouts come from a distribution too far from the one that is trained."""


def synchronise(crew: TrainingCrew, version: int) -> dict[str, float]:
    """Brings the learner's weights to all engines, as ``version``; returns metrics. Engines that share the learner's
    GPUs are awake from then on. Raises ActorFailed."""
    crew.engines.wake_weights()
    sent = crew.engines.sync(crew.learner, version)
    crew.engines.wake_cache()
    return {"sync/version": version, "sync/gib": sent.bytes / 2**30}


def probe_due(version: int, config: RunConfig) -> bool:
    """Returns True every ``sync.probe_every`` versions. A resumed run probes at the same versions."""
    every = config.sync.probe_every
    return every > 0 and version % every == 0


def probe(crew: TrainingCrew, task: Task, config: RunConfig) -> dict[str, float]:
    """Samples a few responses; returns ``sync/probe_…``: mean, 99.9 % quantile and largest difference between engine
    and learner in the log-probs of their tokens, nats.

    The prompts are always the same: an engine that kept cached prefixes of older weights would show it here. Raises
    ParityError above ``sync.probe_mean_abort`` or ``sync.probe_q999_abort``.
    """
    sampling = Sampling(
        n=1,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=config.seed,
        stop_ids=stop_ids(config, task),
    )
    prompts = max(config.sync.probe_prompts, config.rollout.actors)  # dealt out in turn: every engine gets one
    groups = crew.engines.generate(task.train_examples(0, prompts), sampling)
    samples = [sample for group in groups for sample in group.samples]
    batch = pack_rows(
        [group.example.prompt_ids for group in groups],
        [sample.response_ids for sample in samples],
        temperature=config.rollout.temperature,
    )
    logprobs_BT = crew.learner.log_probs(crew.learner.hold(batch))["logprobs"]
    engine_N = torch.tensor([logprob for sample in samples for logprob in sample.rollout_logprobs])
    gaps = Gaps()
    gaps.add(logprobs_BT[batch.mask_BT] - engine_N)
    found = gaps.statistics()
    limits = _limits(config, config.sync.probe_mean_abort, config.sync.probe_q999_abort)
    if wrong := fault(found, limits, "sync.probe"):
        raise ParityError(
            f"after the sync to version {crew.engines.version} {wrong}, over {gaps.tokens} tokens. That is more than "
            "rounding: the engine does not run the weights that were sent, or not the learner's model (its rope base, "
            "its head). Raise the limits only for an engine known to round this much."
        )
    return {"sync/probe_mean": found.mean, "sync/probe_q999": found.q999, "sync/probe_max": found.largest}


def check_rollouts(step: int, metrics: Mapping[str, float], config: RunConfig) -> None:
    """Checks the difference between a step's rollouts and the learner at the weights that sampled them, by the
    learner's metrics; a step in which no row was trained has none. Raises MismatchError above
    ``sync.mismatch_mean_abort`` or ``sync.mismatch_q999_abort``."""
    if "rollout/mismatch_mean" not in metrics:
        return
    found = GapStatistics(
        metrics["rollout/mismatch_mean"], metrics["rollout/mismatch_q999"], metrics["rollout/mismatch_max"]
    )
    limits = _limits(config, config.sync.mismatch_mean_abort, config.sync.mismatch_q999_abort)
    if wrong := fault(found, limits, "sync.mismatch"):
        raise MismatchError(
            f"step {step}: {wrong}, over the step's rollouts. Engine and learner do not run the same model, or not at "
            "the same temperature. Raise the limits only for an engine known to round this much."
        )


def _limits(config: RunConfig, mean: float, q999: float) -> GapLimits:
    """Returns the limits for the dtypes and devices of this run."""
    on_gpu = bool(config.rollout.gpus_per_actor or config.learner.gpus_per_rank)
    return limits_for((config.model.dtype, config.learner.compute_dtype), mean, q999, on_gpu)
