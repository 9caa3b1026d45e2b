"""Estimates one weight sync: its bytes, its seconds by part, and the memory of the host that it takes."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.config.plan.cards import card_of
from carerl.config.plan.rates import (
    COPY,
    DIGEST,
    FABRIC,
    LINK_EFFICIENCY,
    NETWORK,
    STORE,
    TO_GPU,
    TO_HOST_ALONE,
)
from carerl.config.plan.sharding import BYTES, WIDE, replicated, shard_ranks, trained
from carerl.config.roles import Node
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters
from carerl.config.transfer import transfer_kind

WAYS = {
    "nccl": "from GPU to GPU (nccl)",
    "ipc": "within one GPU (ipc)",
    "shm": "through shared memory (shm)",
    "store": "through the object store (store)",
}


def sync_bytes(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns what one weight sync brings to each engine: b·N, b bytes of ``model.dtype``, N parameters that are
    trained."""
    return BYTES[config.model.dtype] * trained(config, shape)


def exported_bytes(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns the size of a checkpoint's model: b·N of all parameters, or of adapters alone in float32."""
    if config.learner.lora.apart:
        return WIDE * trained(config, shape)
    return BYTES[config.model.dtype] * count_parameters(shape).total


def largest_tensor(shape: ShapeConfig) -> int:
    """Returns how many numbers the largest tensor has."""
    return shape.hidden_size * max(shape.vocab_size, shape.intermediate_size)


def planned_kind(config: RunConfig, nodes: Sequence[Node]) -> str:
    """Returns the kind of transfer where the actors lie as planned."""
    return transfer_kind(config, together=not _away(nodes))


def _away(nodes: Sequence[Node]) -> bool:
    """Returns True if an engine is on another node than the learner's first rank."""
    first = next((node for node in nodes if "learner" in node.actors), None)
    return any("rollout" in node.actors and node is not first for node in nodes)


def sync_parts(config: RunConfig, shape: ShapeConfig, nodes: Sequence[Node]) -> dict[str, float]:
    """Returns the seconds of a sync by part. Weights are cast where they lie, gathered on the ranks' devices, and sent
    by the first rank alone. Both sides read them once more for the digest."""
    kind, card = planned_kind(config, nodes), card_of(config)
    sent, on_gpu = sync_bytes(config, shape) / 1e9, config.learner.gpus_per_rank > 0
    ranks = 1 if replicated(config) else shard_ranks(config)
    link = card.link_gbps * LINK_EFFICIENCY
    across = min(card.link_gbps, FABRIC) * LINK_EFFICIENCY if _away(nodes) else link
    memory = card.bandwidth_tbps * 1e3
    parts = {"gather": sent * (ranks - 1) / ranks / (link if on_gpu else COPY)}
    if kind in ("nccl", "ipc"):
        parts["broadcast"] = sent / across if kind == "nccl" else 0.0
        parts["load and digest"] = 4 * sent / memory  # read and written by the engine, read once more by both sides
        return parts
    parts["to the host"] = sent / (TO_HOST_ALONE if on_gpu else COPY)
    parts["digest"] = sent / (memory if on_gpu else DIGEST) + sent / DIGEST
    if kind == "store":
        parts["store"] = sent / STORE + (sent / NETWORK if _away(nodes) else 0.0)
    parts["load"] = sent / (TO_GPU if config.rollout.gpus_per_actor else COPY)
    return parts


def bucket_bytes(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns the size of the largest bucket: a tensor beyond ``sync.bucket_mib`` is one by itself."""
    tensor = BYTES[config.model.dtype] * largest_tensor(shape)
    return min(max(config.sync.bucket_mib * 2**20, tensor), sync_bytes(config, shape))


def sync_host_bytes(config: RunConfig, shape: ShapeConfig, nodes: Sequence[Node], sends: bool, receives: bool) -> int:
    """Returns the main memory of a node that a sync takes. ``sends``, ``receives``: whether the learner's first rank
    and engines are on it. ``shm``: two buckets that both sides share. ``store``: the sender fills one while two
    lie in the object store, where engines read them; on another node the store has two."""
    kind, bucket = planned_kind(config, nodes), bucket_bytes(config, shape)
    if kind == "shm":
        return 2 * bucket if sends else 0
    if kind == "store":
        return 3 * bucket if sends else 2 * bucket if receives else 0
    return 0
