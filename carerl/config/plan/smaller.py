"""Says which setting makes a part of an actor's memory smaller.

Names of parts are those of :mod:`carerl.config.plan.memory`, :mod:`carerl.config.plan.shared` and
:mod:`carerl.config.plan.resident`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from carerl.config.plan.sharding import BYTES
from carerl.config.plan.sync import largest_tensor, sync_bytes
from carerl.config.roles import colocated
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape

STATE = ("weights", "gradients", "optimizer")  # parts that follow from the parameter count without any estimate
LARGER = "use a larger card (cluster.gpu= names yours)"
LITTLE = 0.1  # [ours] of the memory in question: a smaller part is not worth a change


def smaller(config: RunConfig, role: str, part: str, on_gpu: bool) -> str:
    """Returns what to write so that this part of an actor gets smaller; '' if no setting does that. ``on_gpu``: the
    part lies on a GPU."""
    return either(ways_of(config, role, part, on_gpu))


def ways_of(config: RunConfig, role: str, part: str, on_gpu: bool) -> list[str]:
    """Returns the same as a list of ways, each of which helps."""
    found = _BY_ROLE[role](config, part, on_gpu) if role in _BY_ROLE else ""
    return [way for way in ([found] if isinstance(found, str) else found) if way]


def either(ways: Iterable[str]) -> str:
    """Joins ways of which each helps, every one once."""
    return ", or ".join(dict.fromkeys(ways))


def _learner(c: RunConfig, part: str, on_gpu: bool) -> str | Sequence[str]:
    own = c.learner
    if part in STATE:
        return _state(c, part, on_gpu)
    if part == "activations":
        return _activations(c, on_gpu)
    adapted = own.lora.rank > 0
    return {
        "gathered": _dtype("learner.compute_dtype", own.compute_dtype),
        "reference": (_adapters(c), _reference_apart(c)),
        "head": _lower("learner.head_chunk_tokens", own.head_chunk_tokens),
        "head matrices": _adapters(c),
        "root gradients": _adapters(c),
        "reference's head": _adapters(c),
        "offloaded": (_ranks(c), _kept(c)),
        "sync buckets": _bucket(c),
        "tensors on their way": _bucket(c),
        "hidden states": _sent(c),
        "copy to save": (_ranks(c), _adapters(c), _lower("learner.lora.rank", own.lora.rank) if adapted else ""),
        "exported model": "write learner.lora.export=adapter" if adapted and not own.lora.apart else "",
    }.get(part, "")


def _reference_apart(c: RunConfig) -> str:
    """Returns the way to take the reference from the learner's ranks; '' for a run that is made for one GPU."""
    if _has_one_gpu(c):
        return ""
    return "write reference.place=actors" + (", on GPUs of their own" if colocated(c) else "")


def _has_one_gpu(c: RunConfig) -> bool:
    return c.learner.gpus_per_rank > 0 and c.learner.ranks == c.cluster.gpus_per_node == 1


def _ranks(c: RunConfig) -> str:
    """Returns the way to share out over more ranks; '' for a run that is made for one GPU."""
    if _has_one_gpu(c):
        return ""
    return f"raise learner.ranks (now {c.learner.ranks}){', with rollout.actors' if colocated(c) else ''}"


def _kept(c: RunConfig) -> str:
    """Returns the way to keep on the GPU what is offloaded."""
    own = c.learner
    for name in ("cpu_offload", "optimizer_offload", "activation_offload"):
        if getattr(own, name):
            return f"write learner.{name}=false"
    return ""


def _state(c: RunConfig, part: str, on_gpu: bool) -> Sequence[str]:
    """Returns what shares out a part of the state, see :mod:`carerl.config.plan.sharding`. DeepSpeed shares weights
    from stage 3 on, and gradients from stage 2; offloading moves all of fsdp2's, and of its own the optimizer."""
    own = c.learner
    if own.backend == "deepspeed" and own.zero_stage < {"weights": 3, "gradients": 2, "optimizer": 1}[part]:
        return [f"write learner.zero_stage=3 (now {own.zero_stage})"]
    moves = own.backend == "fsdp2" or part == "optimizer"
    away = "write learner.cpu_offload=true" if on_gpu and moves and not own.cpu_offload else ""
    away += " learner.optimizer_offload=false" if away and own.optimizer_offload else ""  # it is moved already
    narrower = own.backend == "fsdp2" and c.model.dtype == "bfloat16"  # frozen weights are not kept in float32
    return _ranks(c), away, _adapters(c) if part != "weights" or narrower else ""


def _adapters(c: RunConfig) -> str:
    """Returns the way to train adapters alone: gradients and optimizer state are theirs, and the reference is the
    learner's own model. '' where they are trained already, or do not go with the run."""
    own = c.learner
    may = c.trains_on_questions and own.compute_dtype == c.reference.compute_dtype
    may &= not (own.backend == "deepspeed" and own.compute_dtype == "bfloat16" and c.model.dtype == "float32")
    return "write learner.lora.rank=16, which trains adapters alone" if may and not own.lora.rank else ""


def _activations(c: RunConfig, on_gpu: bool) -> str:
    """Returns the first of the ways that are left: fewer rows, then time for memory, then shorter rows."""
    own = c.learner
    if own.micro_batch_rows > 1:
        return _lower("learner.micro_batch_rows", own.micro_batch_rows)
    if not own.gradient_checkpointing:
        return "write learner.gradient_checkpointing=true"
    if on_gpu and not own.activation_offload:
        return "write learner.activation_offload=true"
    return _lower("rollout.max_model_len", c.rollout.max_model_len)


def _rollout(c: RunConfig, part: str, on_gpu: bool) -> str:
    own = c.rollout
    if part in ("weights", "weights asleep", "layer on its way"):
        split = f"raise rollout.tensor_parallel (now {own.tensor_parallel})" if not colocated(c) else ""
        return split if on_gpu else _dtype("model.dtype", c.model.dtype)
    if part == "KV cache" and own.engine == "vllm":
        share = _lower("rollout.gpu_memory_utilization", own.gpu_memory_utilization)
        return share if on_gpu else _lower("rollout.kv_cache_gib", own.kv_cache_gib)
    if part == "adapters":
        return f"lower learner.lora.rank (now {c.learner.lora.rank})"
    if part in ("KV cache", "logits"):
        return _lower("rollout.max_batch_rows", own.max_batch_rows)
    if part == "CUDA graphs":
        return "write rollout.enforce_eager=true"
    return _bucket(c) if part == "sync buckets" else ""


def _reference(c: RunConfig, part: str, on_gpu: bool) -> str | Sequence[str]:
    own = c.reference
    if part == "weights":
        return _dtype("reference.compute_dtype", own.compute_dtype) or "write reference.place=learner"
    if part in ("activations", "hidden states"):
        longest = own.micro_batch_tokens <= c.rollout.max_model_len  # a row goes alone, however long it is
        name, value = ("rollout.max_model_len", c.rollout.max_model_len) if longest else ("", 0)
        return _lower(name or "reference.micro_batch_tokens", value or own.micro_batch_tokens)
    if part == "head":
        return _lower("learner.head_chunk_tokens", c.learner.head_chunk_tokens)
    return _sent(c) if part == "sent hidden states" else ""


def _sent(c: RunConfig) -> Sequence[str]:
    """Returns what to do about hidden states that go from the reference to the learner."""
    return "write reference.place=learner", _lower("evaluation.scored_samples", c.evaluation.scored_samples)


def _bucket(c: RunConfig) -> str:
    """Returns the way to smaller buckets of a sync; '' where the largest tensor fills one by itself."""
    shape, _ = effective_shape(c)
    tensor = BYTES[c.model.dtype] * largest_tensor(shape)
    own = c.sync.bucket_mib
    return _lower("sync.bucket_mib", own) if min(own * 2**20, sync_bytes(c, shape)) > tensor else ""


def _lower(setting: str, value: float) -> str:
    return f"lower {setting} (now {value:g})"


def _dtype(setting: str, value: str) -> str:
    return f"write {setting}=bfloat16 (now {value})" if value != "bfloat16" else ""


_BY_ROLE: dict[str, Callable[[RunConfig, str, bool], str | Sequence[str]]] = {
    "learner": _learner,
    "rollout": _rollout,
    "reference": _reference,
}
