"""Counts what each way of sharding a learner keeps on a rank, moves to the host, and sends over the links.

N parameters, R ranks, S ranks that hold the model once together (``learner.shard_ranks``, otherwise all), b bytes of
the compute dtype. Weights, gradient sums and AdamW's two moments are float32.

============== ============================== ======================= =================
backend        weights                        gradients               optimizer
============== ============================== ======================= =================
fsdp2          4N/S                           4N/S                    8N/S
deepspeed, 1   bN                             4N, and bN if b < 4     12N/R
deepspeed, 2   bN                             4N/R                    12N/R
deepspeed, 3   bN/R                           4N/R                    12N/R
============== ============================== ======================= =================

DeepSpeed's optimizer has weights of its own in float32. With ``learner.cpu_offload`` the host has DeepSpeed's
optimizer, in stage 3 the weights too, and everything of fsdp2.
"""

from __future__ import annotations

from dataclasses import dataclass

from carerl.config.schema import RunConfig

WIDE = 4  # bytes of float32
BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}
BUCKET = 2**27  # values that DeepSpeed reduces or gathers at one time


@dataclass(frozen=True)
class Held:
    """Bytes of a rank's state: weights, gradients and optimizer."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


def shard_ranks(config: RunConfig) -> int:
    """Returns S: how many ranks hold the model once together."""
    return config.learner.shard_ranks or config.learner.ranks


def replicated(config: RunConfig) -> bool:
    """Returns True if every rank keeps the whole weights of the forward pass."""
    return config.learner.backend == "deepspeed" and config.learner.zero_stage < 3


def state(config: RunConfig, parameters: int) -> Held:
    """Returns what a rank keeps, on its device and on the host together."""
    learner = config.learner
    n, b = float(parameters), BYTES[learner.compute_dtype]
    if learner.backend == "fsdp2":
        part = n / shard_ranks(config)
        return Held(WIDE * part, WIDE * part, 2 * WIDE * part)
    part = n / learner.ranks
    gradients = {1: WIDE * n + (b * n if b < WIDE else 0), 2: WIDE * part, 3: WIDE * part}[learner.zero_stage]
    return Held(b * (part if learner.zero_stage == 3 else n), gradients, 3 * WIDE * part)


def offloaded(config: RunConfig, parameters: int) -> Held:
    """Returns what of that lies on the host instead of a GPU."""
    held, learner = state(config, parameters), config.learner
    if not learner.cpu_offload:
        return Held(0, 0, 0)
    if learner.backend == "fsdp2":
        return held
    return Held(held.weights if learner.zero_stage == 3 else 0, 0, held.optimizer)


def on_device(config: RunConfig, parameters: int) -> Held:
    """Returns what a rank keeps on its device."""
    held, away = state(config, parameters), offloaded(config, parameters)
    return Held(held.weights - away.weights, held.gradients - away.gradients, held.optimizer - away.optimizer)


def saved_bytes(config: RunConfig, parameters: int) -> float:
    """Returns what a rank copies to the host to save it: float32 weights and both moments."""
    ranks = shard_ranks(config) if config.learner.backend == "fsdp2" else config.learner.ranks
    return 3 * WIDE * parameters / ranks


@dataclass(frozen=True)
class Traffic:
    """Bytes that a rank sends and receives over links: in each micro-batch, and in each update beside that. ``across``:
    in each update, between replicas."""

    micro_batch: float
    update: float
    across: float


def traffic(config: RunConfig, parameters: int) -> Traffic:
    """Returns what an update moves. fsdp2 and stage 3 gather the weights for the forward and for the backward pass, and
    sum gradients in float32, in every micro-batch. With replicas a rank's part of the sums goes between them once."""
    learner = config.learner
    n, b = float(parameters), BYTES[learner.compute_dtype]
    wide = max(b, WIDE)
    if learner.backend == "fsdp2" or learner.zero_stage == 3:
        ranks = shard_ranks(config) if learner.backend == "fsdp2" else learner.ranks
        replicas = learner.ranks // ranks
        across = 2 * wide * n / ranks * (replicas - 1) / replicas
        return Traffic((2 * b + wide) * n * (ranks - 1) / ranks, 0.0, across)
    apart = (learner.ranks - 1) / learner.ranks
    gathered, summed = b * n * apart, WIDE * n * apart
    if learner.zero_stage == 1:
        return Traffic(0.0, gathered + summed, 0.0)
    return Traffic(summed, gathered, 0.0)
