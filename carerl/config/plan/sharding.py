"""Counts what each way of sharding a learner keeps on a rank, moves to the host, and sends over the links.

N parameters that are trained, F that are frozen, R ranks, S ranks that hold the model once together
(``learner.shard_ranks``, otherwise all), b bytes of the compute dtype, m of ``model.dtype``. Weights that are trained,
gradient sums and AdamW's two moments are float32. Without adapters F is 0; with them N counts the adapters alone.

============== ============================== ======================= =================
backend        weights                        gradients               optimizer
============== ============================== ======================= =================
fsdp2          (4N + mF)/S                    4N/S                    8N/S
deepspeed, 1   b(N + F)                       4N, and bN if b < 4     12N/R
deepspeed, 2   b(N + F)                       4N/R                    12N/R
deepspeed, 3   b(N + F)/R                     4N/R                    12N/R
============== ============================== ======================= =================

DeepSpeed's optimizer has weights of its own in float32. With ``learner.cpu_offload`` the host has DeepSpeed's
optimizer, in stage 3 the weights too, and everything of fsdp2.
"""

from __future__ import annotations

from dataclasses import dataclass

from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_adapters, count_parameters

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


def trained(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns N: how many parameters are trained."""
    return count_adapters(shape, config.learner.lora) or count_parameters(shape).total


def frozen(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns F: how many are not, the whole model's where there are adapters."""
    return count_parameters(shape).total if config.learner.lora.rank else 0


def state(config: RunConfig, shape: ShapeConfig) -> Held:
    """Returns what a rank keeps, on its device and on the host together."""
    learner = config.learner
    n, f, b = float(trained(config, shape)), float(frozen(config, shape)), BYTES[learner.compute_dtype]
    if learner.backend == "fsdp2":
        ranks = shard_ranks(config)
        weights = WIDE * n + BYTES[config.model.dtype] * f
        return Held(weights / ranks, WIDE * n / ranks, 2 * WIDE * n / ranks)
    part = n / learner.ranks
    gradients = {1: WIDE * n + (b * n if b < WIDE else 0), 2: WIDE * part, 3: WIDE * part}[learner.zero_stage]
    return Held(b * (n + f) / (learner.ranks if learner.zero_stage == 3 else 1), gradients, 3 * WIDE * part)


def offloaded(config: RunConfig, shape: ShapeConfig) -> Held:
    """Returns what of that lies on the host instead of a GPU."""
    held, learner = state(config, shape), config.learner
    if not learner.cpu_offload:
        return Held(0, 0, 0)
    if learner.backend == "fsdp2":
        return held
    return Held(held.weights if learner.zero_stage == 3 else 0, 0, held.optimizer)


def on_device(config: RunConfig, shape: ShapeConfig) -> Held:
    """Returns what a rank keeps on its device."""
    held, away = state(config, shape), offloaded(config, shape)
    return Held(held.weights - away.weights, held.gradients - away.gradients, held.optimizer - away.optimizer)


def saved_bytes(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns what a rank copies to the host to save it: what is trained, in float32, and both moments."""
    ranks = shard_ranks(config) if config.learner.backend == "fsdp2" else config.learner.ranks
    return 3 * WIDE * trained(config, shape) / ranks


@dataclass(frozen=True)
class Traffic:
    """Bytes that a rank sends and receives over links: in each micro-batch, and in each update beside that. ``across``:
    in each update, between replicas."""

    micro_batch: float
    update: float
    across: float


def traffic(config: RunConfig, shape: ShapeConfig) -> Traffic:
    """Returns what an update moves. fsdp2 and stage 3 gather the weights for the forward and for the backward pass, and
    sum gradients in float32, in every micro-batch. With replicas a rank's part of the sums goes between them once."""
    learner = config.learner
    n, f, b = float(trained(config, shape)), float(frozen(config, shape)), BYTES[learner.compute_dtype]
    wide = max(b, WIDE)
    if learner.backend == "fsdp2" or learner.zero_stage == 3:
        ranks = shard_ranks(config) if learner.backend == "fsdp2" else learner.ranks
        replicas = learner.ranks // ranks
        across = 2 * wide * n / ranks * (replicas - 1) / replicas
        return Traffic((2 * b * (n + f) + wide * n) * (ranks - 1) / ranks, 0.0, across)
    apart = (learner.ranks - 1) / learner.ranks
    gathered, summed = b * n * apart, WIDE * n * apart
    if learner.zero_stage == 1:
        return Traffic(0.0, gathered + summed, 0.0)
    return Traffic(summed, gathered, 0.0)
