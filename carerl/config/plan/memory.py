"""Adds up the GPU memory of an actor from the model's shape alone. All figures in GiB, each an estimate.

The memory of an actor without a GPU has the same parts, on the host. Bytes per number: 4 in float32, 2 in bfloat16, 8
in float64. The parts of an actor are summed though not all of them exist at one time, so that the sum is an upper
estimate. Left out: fragmentation, and the CUDA context with its libraries, for which :func:`overflows` adds
``CONTEXT_GIB``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from carerl.config.judging import judge_run
from carerl.config.plan.cards import card_of, is_named
from carerl.config.plan.pinned import pinned_growth
from carerl.config.plan.rows import rows_of
from carerl.config.plan.sharding import BUCKET, BYTES, WIDE, offloaded, on_device, replicated, shard_ranks, trained
from carerl.config.plan.smaller import LARGER, STATE, smaller
from carerl.config.plan.sync import largest_tensor, sync_bytes
from carerl.config.roles import ROLES, ActorGroup, actor_groups, reference_in_learner, shares_gpu
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters, effective_shape
from carerl.errors import ConfigError

GIB = float(2**30)
CONTEXT_GIB = 1.5  # of a GPU: CUDA context, NCCL's and cuBLAS's buffers [assumed]
TIGHT = 0.85  # of a GPU's memory: above it, fragmentation alone can end a run [assumed]

Parts = dict[str, float]


def actor_memory(config: RunConfig, shape: ShapeConfig, actors: tuple[ActorGroup, ...]) -> dict[str, Parts]:
    """Returns the parts of one actor's memory by role, for the roles that hold a model."""
    parts = {
        "learner": learner_memory,
        "rollout": rollout_memory,
        "reference": reference_memory,
        "judge": judge_memory,
    }
    return {group.role: parts[group.role](config, shape) for group in actors if group.role in parts}


def learner_memory(config: RunConfig, shape: ShapeConfig) -> Parts:
    """Counts the memory of one rank of the learner. N parameters, L layers, d hidden, V vocabulary, b bytes of the
    compute dtype.

    - weights, gradients, optimizer: see :mod:`carerl.config.plan.sharding`; what is offloaded is not counted here
    - gathered: two layers whole at one time, b bytes each (one is used while the next arrives), and the root
      (embedding, head and last norm), which stays whole from the forward pass to the end of the backward pass; where
      weights are sharded or cast
    - root gradients: whole in b bytes, and in float32 while they are summed over ranks; none with adapters
    - buckets of DeepSpeed: what is reduced or gathered at one time, in b and in 4 bytes
    - reference, where the ranks hold one: its part, and a layer or an embedding of it whole
    - activations of ``micro_batch_rows`` rows of ``max_model_len`` tokens: per token and layer
      ``6d + 2(h + kv)·head + 4·mlp`` numbers kept for the backward pass (inputs of both norms, queries, keys,
      values, attention's output, the gated MLP's four); with checkpointing d per layer and one layer's all; with
      ``activation_offload`` one layer's
    - head: C·V numbers for C tokens of logits at a time, see ``head_chunks``, float32 (float64 for that compute dtype)
    - head matrices, V·d each, whole on every rank: the policy's gradient while it is summed, in float32; the frozen
      reference head, which evaluations use whatever the estimator; and of either a float32 copy where
      :func:`widens_head`. With adapters neither of the two: the head is frozen, and the reference's is the same
    """
    p = count_parameters(shape)
    held = on_device(config, shape)
    adapted = config.learner.lora.rank > 0
    b = BYTES[config.learner.compute_dtype]
    tokens = min(config.learner.micro_batch_rows, _rows_per_rank(config)) * config.rollout.max_model_len
    chunk = min(config.learner.head_chunk_tokens, tokens)
    wide = max(b, BYTES["float32"])
    on_gpu = config.learner.gpus_per_rank > 0
    matrices = (0 if adapted else wide) + (wide if widens_head(config.learner.compute_dtype, on_gpu) else 0)
    if "reference" in config.does.roles:
        own = config.reference.compute_dtype
        matrices += (0 if adapted else BYTES[own]) + (wide if widens_head(own, on_gpu) else 0)
    root, layer = root_parameters(shape), (p.total - root_parameters(shape)) // shape.num_layers
    stored = BYTES[config.model.dtype if adapted else "float32"]
    copied = not replicated(config) and (shard_ranks(config) > 1 or b != stored)
    reduced = min(BUCKET, trained(config, shape)) if config.learner.backend == "deepspeed" else 0
    return {
        "weights": held.weights / GIB,
        "gradients": held.gradients / GIB,
        "optimizer": held.optimizer / GIB,
        "gathered": b * (2 * layer + root) / GIB if copied else 0.0,
        "root gradients": (b + wide) * root / GIB if copied and not adapted else 0.0,
        "buckets": reduced * (b + BYTES["float32"]) / GIB,
        "reference": _reference_on_ranks(config, shape) / GIB,
        "activations": b * tokens * _kept_numbers(config, shape, offloaded=config.learner.activation_offload) / GIB,
        "head": head_chunks(config) * wide * chunk * shape.vocab_size / GIB,
        "head matrices": matrices * shape.vocab_size * shape.hidden_size / GIB,
    }


def _kept_numbers(config: RunConfig, shape: ShapeConfig, offloaded: bool) -> int:
    """Counts the numbers per token that are kept for the backward pass, on the device. ``offloaded``: they wait on the
    host, and one layer's are on the device."""
    per_layer = _layer_numbers(shape)
    if offloaded:
        return per_layer
    if config.learner.gradient_checkpointing:
        return shape.num_layers * shape.hidden_size + per_layer
    return shape.num_layers * per_layer


def kept_share(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns how much of the activations of a training pass a pass without a gradient has: one layer's."""
    kept = _kept_numbers(config, shape, offloaded=config.learner.activation_offload)
    return min(1.0, _layer_numbers(shape) / kept)


def _reference_on_ranks(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns the bytes of the frozen reference on a rank, without its head, where the learner's ranks hold one of its
    own: that of adapters is the learner's model."""
    if not reference_in_learner(config) or config.learner.lora.rank:
        return 0.0
    p, b = count_parameters(shape), BYTES[config.reference.compute_dtype]
    layer = (p.total - root_parameters(shape)) // shape.num_layers
    embedding = 0 if shape.tie_embeddings else shape.vocab_size * shape.hidden_size
    whole = max(layer, embedding) if shard_ranks(config) > 1 else 0
    return b * (p.total / shard_ranks(config) + whole)


def offloaded_bytes(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns the main memory that one rank's offloaded state and activations take. Of adapters, which are small,
    nothing is rounded up."""
    away, learner = offloaded(config, shape), config.learner
    growth = 1.0 if learner.lora.rank else pinned_growth(shape, WIDE, shard_ranks(config))
    held = away.total
    if learner.backend == "fsdp2":
        held += (growth - 1) * (away.weights + away.gradients)
    if learner.optimizer_offload:
        held += growth * on_device(config, shape).optimizer
    if not learner.activation_offload:
        return held
    tokens = min(learner.micro_batch_rows, _rows_per_rank(config)) * config.rollout.max_model_len
    return held + BYTES[learner.compute_dtype] * tokens * _kept_numbers(config, shape, offloaded=False)


def kept_asleep_gib(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns the main memory that one engine's weights take while a rank of the learner has its GPU: those that no
    sync brings back, which with adapters is the whole model. vLLM pins it, and keeps it while the engine is awake."""
    if not (shares_gpu(config) and config.learner.lora.rank):
        return 0.0
    b = BYTES[config.model.dtype]
    growth = pinned_growth(shape, b) if config.rollout.engine == "vllm" else 1.0
    return growth * b * count_parameters(shape).total / GIB


def widens_head(dtype: str, on_gpu: bool) -> bool:
    """Returns True if a head in ``dtype`` is copied to float32 for its products. A GPU multiplies bfloat16 as it is,
    see :mod:`carerl.loss.products`."""
    return dtype == "bfloat16" and not on_gpu


def root_parameters(shape: ShapeConfig) -> int:
    """Counts what FSDP2's root unit holds: all that is in no layer."""
    return count_parameters(shape).embedding + shape.hidden_size


def exact_divergence(config: RunConfig) -> bool:
    """Returns True if a divergence, of the penalty or of anchors, is summed over the whole vocabulary."""
    return config.regularizer is not None and (config.regularizer.estimator == "full" or config.anchor.exact)


def head_chunks(config: RunConfig) -> int:
    """Returns how many tables of C × V numbers exist at the peak of a forward and backward pass. Measured, and kept to
    by the tests of :mod:`carerl.loss.head`: 3.1 (log-probs, gradient, probabilities), 6.3 for an exact divergence, and
    11.3 for Jensen–Shannon; rounded up."""
    if not exact_divergence(config):
        return 4
    of_anchors = config.anchor.divergence if config.anchor.exact else ""
    return 12 if "js" in (config.regularizer.name, of_anchors) else 7


def _layer_numbers(shape: ShapeConfig) -> int:
    """Counts the numbers per token that one layer keeps for its backward pass, see :func:`learner_memory`."""
    heads = 2 * (shape.num_heads + shape.num_kv_heads) * shape.head_dim
    return 6 * shape.hidden_size + heads + 4 * shape.intermediate_size


def _rows_per_rank(config: RunConfig) -> int:
    return -(-rows_of(config).per_minibatch // config.learner.ranks)


def kv_bytes_per_token(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns the bytes of one token's keys and values in all layers: 2·L·kv·head·b bytes, b of ``model.dtype``."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * BYTES[config.model.dtype]


def rollout_memory(config: RunConfig, shape: ShapeConfig) -> Parts:
    """Counts the memory of one engine, all its GPUs together.

    Weights b·N. The KV cache is what the engine reserves: ``kv_cache_gib`` on the CPU, on GPUs what
    ``gpu_memory_utilization`` of the card's memory leaves beside the weights (the plain engine reserves none: what
    ``max_batch_rows`` sequences of full length take). Activations: logits of one token per sequence in float32,
    4·rows·V. Adapters: as they came, and in the layers.
    """
    r = config.rollout
    weights = BYTES[config.model.dtype] * count_parameters(shape).total / GIB
    logits = 4 * r.max_batch_rows * shape.vocab_size / GIB
    if r.engine != "vllm":
        cache = r.max_batch_rows * r.max_model_len * kv_bytes_per_token(config, shape) / GIB
    elif r.gpus_per_actor == 0:
        cache = r.kv_cache_gib
    else:
        cache = max(0.0, _engine_budget(config) - weights - logits)
    adapters = {"adapters": 2 * sync_bytes(config, shape) / GIB} if config.learner.lora.rank else {}
    return {"weights": weights, **adapters, "KV cache": cache, "logits": logits}


def judge_memory(config: RunConfig, shape: ShapeConfig) -> Parts:
    """Counts the memory of one engine of the second model. ``shape`` is the policy's, and not asked."""
    own = judge_run(config)
    return rollout_memory(own, effective_shape(own)[0])


def _engine_budget(config: RunConfig) -> float:
    """Returns what vLLM allows itself on all GPUs of an engine, GiB."""
    r = config.rollout
    return r.gpu_memory_utilization * card_of(config).memory_gib * r.tensor_parallel


def reference_memory(config: RunConfig, shape: ShapeConfig) -> Parts:
    """Counts the memory of one reference actor: weights b·N, one layer's activations of a micro-batch (nothing is kept
    for a backward pass), and what leaves it: logits of ``head_chunk_tokens`` tokens at a time with their log-softmax,
    8·C·V bytes, and where :func:`widens_head` the head's float32 copy; for ``estimator=full`` instead the last hidden
    states, b·tokens·d."""
    b, longest = BYTES[config.reference.compute_dtype], config.rollout.max_model_len
    tokens = min(config.reference.micro_batch_rows * longest, max(config.reference.micro_batch_tokens, longest))
    memory = {
        "weights": b * count_parameters(shape).total / GIB,
        "activations": b * tokens * _layer_numbers(shape) / GIB,
    }
    if exact_divergence(config):
        memory["hidden states"] = b * tokens * shape.hidden_size / GIB
    else:
        chunk = min(config.learner.head_chunk_tokens, tokens)
        wide = max(b, BYTES["float32"])
        widened = widens_head(config.reference.compute_dtype, config.reference.gpus_per_actor > 0)
        copy = wide * shape.hidden_size if widened else 0
        memory["head"] = (2 * wide * chunk + copy) * shape.vocab_size / GIB
    return memory


def loading_gib(role: str, config: RunConfig, shape: ShapeConfig) -> float:
    """Returns what one actor's GPU holds while its model is loaded, GiB. A rank of the learner has its part of the
    weights and two whole tensors, as they are in the files; DeepSpeed, which copies weights to its optimizer, makes its
    gradients at once. A reference has its weights; an engine takes its budget at once."""
    if role == "judge":
        own = judge_run(config)
        return loading_gib("rollout", own, effective_shape(own)[0])
    n = count_parameters(shape).total
    if role == "learner":
        held = on_device(config, shape)
        now = held.weights + (held.gradients + held.optimizer / 3 if config.learner.backend == "deepspeed" else 0.0)
        return (now + 2 * BYTES[config.model.dtype] * largest_tensor(shape)) / GIB
    if role == "rollout" and config.rollout.engine == "vllm":
        return sum(rollout_memory(config, shape).values())
    return BYTES[config.model.dtype if role == "rollout" else config.reference.compute_dtype] * n / GIB


def hidden_states_gib(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns the size of the hidden states that the reference sends for exact divergences, for a step's responses at
    full length: b·tokens·d, packed."""
    tokens = rows_of(config).total * config.rollout.max_new_tokens
    return BYTES[config.reference.compute_dtype] * tokens * shape.hidden_size / GIB


@dataclass(frozen=True)
class Overflow:
    """An actor that does not fit its GPUs, or hardly.

    ``certain``: it is beyond them by the parameter count alone, without any estimate. ``largest``: its largest part,
    with its GiB; ``remedy``: what would make it fit."""

    role: str
    moment: str  # "loading" or "a step"
    needed_gib: float
    room_gib: float
    largest: str
    remedy: str
    certain: bool

    @property
    def fits(self) -> bool:
        return self.needed_gib <= self.room_gib

    def __str__(self) -> str:
        figures = f"{self.needed_gib:.1f} GiB of {self.room_gib:.1f} GiB in {self.moment} ({self.largest})"
        verdict = "fits on paper only, fragmentation can end the run" if self.fits else "does NOT fit"
        return f"{self.role} {verdict}: {figures}; {self.remedy}"


def overflows(config: RunConfig, shape: ShapeConfig, actors: tuple[ActorGroup, ...]) -> list[Overflow]:
    """Returns the actors on GPUs that need more than ``TIGHT`` of the memory that they may take, by role and moment.
    Of an engine and a rank that share a GPU it checks the engine's budget; :mod:`carerl.config.plan.shared` does the
    rest."""
    found: list[Overflow] = []
    for group in actors:
        if not group.gpus_each or group.role == "grading":
            continue
        if group.role == "judge":
            found += _judge_overflows(config)
        elif group.role == "rollout" and config.rollout.engine == "vllm":
            found += [o for o in [_engine_overflow(config, shape)] if not o.fits]
        elif not (shares_gpu(config) and group.role in ("learner", "rollout")):
            found += [o for o in _model_overflow(config, shape, group) if o.needed_gib > TIGHT * o.room_gib]
    return found


def _judge_overflows(config: RunConfig) -> list[Overflow]:
    """Checks the second model as an engine of its own; its settings are the judge's."""
    own = judge_run(config)
    groups = (replace(ROLES["judge"](config), role="rollout"),)
    return [
        replace(o, role="judge", remedy=o.remedy.replace("rollout.", "judge.").replace("model.", "judge."))
        for o in overflows(own, effective_shape(own)[0], groups)
    ]


def _model_overflow(config: RunConfig, shape: ShapeConfig, group: ActorGroup) -> list[Overflow]:
    """Checks a learner's rank, a reference or the plain engine: each has its model on one GPU, or a part of one."""
    role = group.role
    room = card_of(config).memory_gib * min(1.0, group.gpus_each)
    parts = actor_memory(config, shape, (group,))[role]
    largest = max(parts, key=lambda name: parts[name])
    state, loading = sum(parts.get(name, 0.0) for name in STATE), loading_gib(role, config, shape)
    more = ["raise learner.ranks"] if role == "learner" and largest not in STATE else []
    remedy = ", or ".join(filter(None, [smaller(config, role, largest, True), *more, LARGER]))
    step = f"{largest} {parts[largest]:.1f}"
    whole = f"{'its part and two tensors' if role == 'learner' else 'the whole model'} {loading:.1f}"
    return [
        Overflow(role, "loading", CONTEXT_GIB + loading, room, whole, LARGER, loading > room),
        Overflow(role, "a step", CONTEXT_GIB + sum(parts.values()), room, step, remedy, state > room),
    ]


def _engine_overflow(config: RunConfig, shape: ShapeConfig) -> Overflow:
    """Checks vLLM's budget, which it takes whatever happens, for weights, logits and one whole sequence."""
    r, budget, parts = config.rollout, _engine_budget(config), rollout_memory(config, shape)
    one = r.max_model_len * kv_bytes_per_token(config, shape) / GIB
    needed = CONTEXT_GIB + parts["weights"] + parts["logits"] + one
    split = f"write rollout.tensor_parallel={2 * r.tensor_parallel} rollout.gpus_per_actor={2 * r.tensor_parallel}"
    more = LARGER if shares_gpu(config) else split
    remedy = f"the room is rollout.gpu_memory_utilization={r.gpu_memory_utilization:g} of it: raise that, or {more}"
    largest = f"weights {parts['weights']:.1f}"
    return Overflow("rollout", "a step", needed, budget, largest, remedy, parts["weights"] > budget)


def fit_pairings(c: RunConfig) -> Iterator[ConfigError]:
    """Yields an error for each role that is beyond the GPUs which the settings name, by the parameter count alone.
    Estimates refuse nothing, a card that was only assumed neither, and a dry run shows the whole plan instead."""
    if c.dry_run or not is_named(c):
        return
    key = "cluster.gpu" if c.cluster.gpu else "cluster.gpu_memory_gib"
    value = c.cluster.gpu or c.cluster.gpu_memory_gib
    refused: set[str] = set()
    for overflow in overflows(c, effective_shape(c)[0], tuple(actor_groups(c))):
        if overflow.certain and overflow.role not in refused:
            refused.add(overflow.role)
            reason, _, remedy = str(overflow).partition("; ")
            yield ConfigError(key, value, reason, f"{remedy}; dry_run=true prints the whole plan")
