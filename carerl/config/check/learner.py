"""Refuses settings of the learner that do not go together."""

from __future__ import annotations

from carerl.config.schema import LearnerConfig, RunConfig
from carerl.errors import ConfigError
from carerl.settings import Errors


def learner_pairings(c: RunConfig) -> Errors:
    """Yields what the learner's backend or its devices do not do."""
    learner = c.learner
    if learner.backend == "deepspeed":
        yield from _deepspeed(learner)
    else:
        yield from _fsdp2(learner)
    for name in ("activation_offload", "cpu_offload"):
        if getattr(learner, name) and learner.gpus_per_rank == 0:
            reason = "without a GPU all of it is in host memory already"
            yield ConfigError(f"learner.{name}", True, reason, f"leave learner.{name} out")


def _deepspeed(learner: LearnerConfig) -> Errors:
    if learner.shard_ranks:
        reason = "deepspeed shards over all ranks"
        remedy = "write learner.backend=fsdp2, or leave learner.shard_ranks out"
        yield ConfigError("learner.shard_ranks", learner.shard_ranks, reason, remedy)
    if learner.compute_dtype == "float64":
        reason = "deepspeed keeps weights and gradients in float32 at most"
        remedy = "write learner.backend=fsdp2, or learner.compute_dtype=float32"
        yield ConfigError("learner.compute_dtype", learner.compute_dtype, reason, remedy)
    if learner.compile and learner.zero_stage == 3:
        reason = "deepspeed gathers the weights of each part of a layer inside of what would be compiled"
        remedy = "write learner.zero_stage=2 or learner.backend=fsdp2, or leave learner.compile out"
        yield ConfigError("learner.compile", True, reason, remedy)


def _fsdp2(learner: LearnerConfig) -> Errors:
    if learner.zero_stage != LearnerConfig.zero_stage:
        reason = "fsdp2 has no such stages: it shards weights, gradients and optimizer state"
        remedy = "write learner.backend=deepspeed, or leave learner.zero_stage out"
        yield ConfigError("learner.zero_stage", learner.zero_stage, reason, remedy)
    if learner.shard_ranks and learner.ranks % learner.shard_ranks:
        reason = f"the {learner.ranks} ranks of learner.ranks do not divide into groups of so many"
        yield ConfigError("learner.shard_ranks", learner.shard_ranks, reason, "give a divisor of learner.ranks, or 0")
