"""Chooses how weights go from the learner to the engines, and refuses what cannot work."""

from __future__ import annotations

from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.settings import Errors


def transfer_kind(c: RunConfig, together: bool = True) -> str:
    """Returns the kind of transfer, one of ``ipc``, ``nccl``, ``shm`` and ``store``.

    ``together``: True if all engines are on the node of the learner's first rank, which is known once they have a
    place. What vLLM has to be built with does not depend on it. Raises ConfigError if this kind cannot reach them.
    """
    kind = c.sync.transfer
    on_gpus = bool(c.rollout.gpus_per_actor and c.learner.gpus_per_rank)
    if kind == "auto" and c.rollout.engine == "vllm" and on_gpus and not _may_share(c):
        kind = "nccl"
    elif kind == "auto":
        kind = "shm" if together else "store"
    if kind == "shm" and not together:
        reason = "a node's memory is shared by processes of that node, and engines are on other nodes than the learner"
        raise ConfigError("sync.transfer", kind, reason, "write sync.transfer=auto")
    if kind == "store" and c.rollout.tensor_parallel > 1:
        raise _no_store(c)
    return kind


def transfer_pairings(c: RunConfig) -> Errors:
    """Yields an error for a kind of transfer that the run's actors cannot carry out."""
    kind = c.sync.transfer
    if not c.trains_on_questions:
        return
    on_gpus = bool(c.rollout.gpus_per_actor and c.learner.gpus_per_rank)
    if kind in ("nccl", "ipc") and not on_gpus:
        reason = "it goes from GPU to GPU, and learner and engines do not both have GPUs"
        yield ConfigError("sync.transfer", kind, reason, "write sync.transfer=auto")
    elif kind in ("nccl", "ipc") and c.rollout.engine != "vllm":
        reason = f"it is vLLM's own, and the engine is {c.rollout.engine}"
        yield ConfigError("sync.transfer", kind, reason, "write sync.transfer=shm or rollout.engine=vllm")
    elif kind == "ipc" and not _may_share(c):
        reason = "a GPU's memory is shared only by processes on that GPU, and here engine and learner have GPUs apart"
        yield ConfigError("sync.transfer", kind, reason, "write sync.transfer=nccl")
    elif kind == "ipc" and (c.learner.ranks > 1 or c.rollout.actors > 1):
        reason = "every engine would have to be on the GPU of a rank, and nothing places them so"
        yield ConfigError("sync.transfer", kind, reason, "write sync.transfer=shm")
    elif kind == "nccl" and _may_share(c):
        reason = "NCCL does not connect two processes on one GPU, and by their shares engine and learner may be on one"
        yield ConfigError("sync.transfer", kind, reason, "write sync.transfer=shm, or ipc for one rank and one engine")
    elif kind == "store" and c.rollout.tensor_parallel > 1:
        yield _no_store(c)


def _may_share(c: RunConfig) -> bool:
    """Returns True if a rank of the learner and an engine fit on one GPU, by their shares of it."""
    return c.learner.gpus_per_rank + c.rollout.gpus_per_actor <= 1


def _no_store(c: RunConfig) -> ConfigError:
    reason = "the engine's workers have no access to Ray's object store, so all weights would be copied to each"
    return ConfigError("sync.transfer", c.sync.transfer, reason, "write sync.transfer=nccl, or shm on one node")
