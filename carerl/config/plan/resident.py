"""Adds up the peak resident memory of one actor, the largest of its role, by its parts, in GiB.

That is what ``Worker.rss_gib`` measures, and what counts where a process is killed: private pages, pages of files that
are mapped (weights that are used as they lie in a safetensors file), and pages of shared memory (buckets of a weight
sync, which both sides count). Tests hold the sum to 15 % of what runs on the CPU measure. Parts that are there at
different moments are not added: those of the largest moment are taken.

What is there twice or longer than one would think, as measured with the 135M model:

- gradients of a learner: each step frees them, and the process keeps their pages, because tensors below 32 MiB come
  from the heap. So the copies that a checkpoint takes come on top of them.
- weights of vLLM on the CPU: it packs each matrix for its products and frees the other copy, whose pages stay likewise
- a reference's weights, where ``reference.compute_dtype`` is not ``model.dtype``: files stay mapped until the last one
  is cast
- a sync's buckets stay mapped from the first sync on

Furthest off, in float32 from files in bfloat16: the plan is 12 % below what an engine had, and 11 % below a reference,
as what is read is there beside what is cast for a while. In bfloat16 and with the tiny model it is within 9 %.

On a GPU none of the model's own parts are here, but for those that wait on the host: what a learner offloads, and with
adapters the weights of an engine that sleeps. Files that are read count, though the kernel takes their pages back when
it needs them. The process's size is an assumption more.
"""

from __future__ import annotations

from collections.abc import Callable

from carerl.config.judging import judge_run
from carerl.config.plan.host_memory import largest_hidden_gib
from carerl.config.plan.memory import (
    GIB,
    Parts,
    kept_asleep_gib,
    learner_memory,
    offloaded_bytes,
    reference_memory,
    rollout_memory,
)
from carerl.config.plan.processes import process_gib
from carerl.config.plan.sharding import BYTES, saved_bytes
from carerl.config.plan.smaller import STATE
from carerl.config.plan.sync import bucket_bytes, exported_bytes, planned_kind, sync_bytes
from carerl.config.roles import ROLES, place
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters, effective_shape


def resident_parts(config: RunConfig, shape: ShapeConfig, role: str) -> Parts:
    """Returns the parts of one actor's peak. Of a grader without the processes that it starts."""
    on_gpu = role in ROLES and ROLES[role](config).gpus_each > 0
    moments = _MOMENTS[role](config, shape, on_gpu) if role in _MOMENTS else [{}]
    largest = max(moments, key=lambda parts: sum(parts.values()))
    return {"process": process_gib(config, role, on_gpu)} | {name: gib for name, gib in largest.items() if gib}


def _learner(config: RunConfig, shape: ShapeConfig, on_gpu: bool) -> list[Parts]:
    """Returns what the first rank has in an update and while it saves; on a GPU also while it loads."""
    # What rests on a GPU's host was offloaded; without a GPU all of it is here.
    device = {} if on_gpu else learner_memory(config, shape)
    rest = {"sync buckets": _buckets(config, shape, sends=True)}
    rest |= {"offloaded": offloaded_bytes(config, shape) / GIB} if on_gpu else {p: device[p] for p in STATE}
    saving = {"copy to save": saved_bytes(config, shape) / GIB, "exported model": exported_bytes(config, shape) / GIB}
    loading = {"files": _files(config, shape)}
    # An object is mapped as it lies in the store.
    step = {"hidden states": largest_hidden_gib(config, shape) / config.learner.ranks}
    return [rest | device | step, rest | saving, rest | loading]


def _rollout(config: RunConfig, shape: ShapeConfig, on_gpu: bool) -> list[Parts]:
    """Returns what an engine has as it works; on a GPU also while it loads and, where it shares that GPU, sleeps."""
    buckets = {"sync buckets": _buckets(config, shape, sends=False)}
    if on_gpu:
        return [buckets | {"weights asleep": kept_asleep_gib(config, shape)}, {"files": _files(config, shape)}]
    parts = rollout_memory(config, shape)
    packed = {"packed weights": parts["weights"]} if config.rollout.engine == "vllm" else {}
    return [parts | packed | buckets]


def _reference(config: RunConfig, shape: ShapeConfig, on_gpu: bool) -> list[Parts]:
    """Returns what a reference has while it loads, and in a step: what it sends is there as tensors and as an
    object."""
    cast = config.reference.compute_dtype != config.model.dtype
    loaded = _files(config, shape)
    sent = {"sent hidden states": 2 * largest_hidden_gib(config, shape) / config.reference.actors}
    if on_gpu:
        return [sent, {"files": loaded}]
    parts = reference_memory(config, shape)
    return [parts | sent, {"weights": parts["weights"], "files": loaded if cast else 0.0}]


def _files(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns the model's files, of which each is mapped, page by page as it is read, until it is closed. Upper
    estimate: vLLM closes one before it opens the next."""
    return BYTES[config.model.dtype] * count_parameters(shape).total / GIB


def _buckets(config: RunConfig, shape: ShapeConfig, sends: bool) -> float:
    """Returns a sync's buckets that one side has mapped: two, or the whole model where that is less. A sender by the
    object store fills one beside them."""
    nodes = place(config)
    if not config.trains_on_questions or not any("rollout" in node.actors for node in nodes):
        return 0.0
    kind = planned_kind(config, nodes)
    bucket, whole = bucket_bytes(config, shape), sync_bytes(config, shape)
    mapped = min(2 * bucket, whole) + (bucket if sends and kind == "store" else 0)
    return mapped / GIB if kind in ("shm", "store") else 0.0


def _judge(config: RunConfig, shape: ShapeConfig, on_gpu: bool) -> list[Parts]:
    """Returns what an engine of the second model has, to which no weights are sent."""
    own = judge_run(config)
    return _rollout(own, effective_shape(own)[0], on_gpu)


_MOMENTS: dict[str, Callable[[RunConfig, ShapeConfig, bool], list[Parts]]] = {
    "learner": _learner,
    "rollout": _rollout,
    "reference": _reference,
    "judge": _judge,
}
