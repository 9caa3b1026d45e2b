"""Chooses how weights go from the learner to the engines, and refuses what cannot work."""

from __future__ import annotations

from collections.abc import Mapping

from carerl.config.roles import colocated
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.settings import Errors

# torch's own, with settings for its allocator; of several the first counts
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
GROWING = "expandable_segments"


def transfer_kind(c: RunConfig, together: bool = True) -> str:
    """Returns the kind of transfer, one of ``ipc``, ``nccl``, ``shm`` and ``store``.

    ``together``: True if all engines are on the node of the learner's first rank, which is known once they have a
    place. What vLLM has to be built with does not depend on it. Raises ConfigError if this kind cannot reach them.
    """
    kind = c.sync.transfer
    on_gpus = bool(c.rollout.gpus_per_actor and c.learner.gpus_per_rank)
    if kind == "auto" and c.rollout.engine == "vllm" and on_gpus and colocated(c):
        kind = "ipc"
    elif kind == "auto" and c.rollout.engine == "vllm" and on_gpus and not _may_share(c):
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
    elif kind == "ipc" and not colocated(c):
        reason = (
            "a GPU's memory is shared only by processes on that GPU, and nothing places an engine on the GPU of a rank"
        )
        yield ConfigError("sync.transfer", kind, reason, "write cluster.placement=colocated, or sync.transfer=auto")
    elif kind == "nccl" and _may_share(c):
        reason = "NCCL does not connect two processes on one GPU, and by their shares engine and learner may be on one"
        yield ConfigError("sync.transfer", kind, reason, "write sync.transfer=auto")
    elif kind == "store" and c.rollout.tensor_parallel > 1:
        yield _no_store(c)


def allocator_errors(c: RunConfig, environment: Mapping[str, str]) -> Errors:
    """Yields an error if a variable of the user's asks for memory that ``ipc`` cannot pass on, see
    :mod:`carerl.backends.allocator`. ``environment``: that of the learner's processes."""
    if not (c.trains_on_questions and c.learner.gpus_per_rank) or transfer_kind(c) != "ipc":
        return
    name = next((name for name in ALLOCATOR_VARIABLES if environment.get(name)), "")
    settings = dict(part.strip().partition(":")[::2] for part in environment.get(name, "").split(","))
    if settings.get(GROWING, "").strip().lower() in ("true", "1"):
        reason = "weights go as handles to GPU memory (ipc), and engines cannot open handles to segments that grow"
        remedy = f"take {GROWING} out of it, or write sync.transfer=shm"
        yield ConfigError(name, environment[name], reason, remedy)


def _may_share(c: RunConfig) -> bool:
    """Returns True if a rank of the learner and an engine fit on one GPU, by their shares of it."""
    return c.learner.gpus_per_rank + c.rollout.gpus_per_actor <= 1


def _no_store(c: RunConfig) -> ConfigError:
    reason = "the engine's workers have no access to Ray's object store, so all weights would be copied to each"
    return ConfigError("sync.transfer", c.sync.transfer, reason, "write sync.transfer=nccl, or shm on one node")
