"""What a run would do, before it does it: actors and placement, batches, memory, GPU-hours.

Needs no weights, no Ray and no GPU: everything follows from the settings and the model's shape.
"""

from __future__ import annotations

from dataclasses import dataclass

from carerl.config.actors import ActorGroup, Node, actor_groups, place
from carerl.config.load import dump
from carerl.config.memory import hidden_states_gib, kv_bytes_per_token, learner_memory, reference_memory, rollout_memory
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import Parameters, count_parameters, effective_shape

# Assumptions of the GPU-hours, all stated in the plan [ours]
MFU = 0.4  # of the matmul rate, in training and scoring
DECODE_EFFICIENCY = 0.5  # of the decode step's physical limit
MEAN_FRACTION = 0.5  # mean length of a response and of a prompt, of their limits
LINK_GBPS = 50.0  # GB/s of a weight update between GPUs


@dataclass(frozen=True)
class BatchPlan:
    """How one step's data is cut up. ``rows`` are responses (RL) or corpus rows (sft)."""

    prompts: int
    samples: int  # responses per prompt
    rows: int
    minibatches: int  # optimizer steps that pass over the rows once
    epochs: int
    rows_per_minibatch: int
    ranks: int
    rows_per_rank: int  # of a minibatch, the largest
    micro_batches: int  # per rank and minibatch
    row_tokens: int  # longest row
    tokens_per_step: int  # at most, prompts included
    response_tokens_per_step: int  # at most
    optimizer_steps: int  # per step of the loop
    forward_backward: int  # per rank and step of the loop
    forward_only: int  # per rank and step: log-probs before the first update


@dataclass(frozen=True)
class ComputeEstimate:
    """Seconds of one step by stage, and GPU-hours of the run, evaluations not counted."""

    generate: float
    reference: float
    train: float
    sync: float
    gpus: float
    gpu_hours: float
    assumptions: tuple[str, ...]

    @property
    def step(self) -> float:
        return self.generate + self.reference + self.train + self.sync


@dataclass(frozen=True)
class Plan:
    """Everything that ``dry_run=true`` prints."""

    title: str  # name and description
    recipe: str  # resolved settings, YAML
    shape: ShapeConfig
    shape_origin: str
    parameters: Parameters
    actors: tuple[ActorGroup, ...]
    nodes: tuple[Node, ...]
    batch: BatchPlan
    memory: dict[str, dict[str, float]]  # role -> part -> GiB of one actor
    compute: ComputeEstimate | None  # None without GPUs
    notes: tuple[str, ...]


def plan(config: RunConfig) -> Plan:
    """The plan of a validated run. Raises ConfigError when an actor does not fit a node."""
    shape, origin = effective_shape(config)
    batch = batch_plan(config)
    actors = tuple(actor_groups(config))
    memory = {}
    roles = {a.role for a in actors}
    if "learner" in roles:
        memory["learner"] = learner_memory(config, shape, batch.row_tokens)
    if "rollout" in roles:
        memory["rollout"] = rollout_memory(config, shape)
    if "reference" in roles:
        memory["reference"] = reference_memory(config, shape, batch.row_tokens)
    return Plan(
        title=f"{config.recipe}: {config.description}",
        recipe=dump(config),
        shape=shape,
        shape_origin=origin,
        parameters=count_parameters(shape),
        actors=actors,
        nodes=tuple(place(config)),
        batch=batch,
        memory=memory,
        compute=compute_estimate(config, shape, batch, actors),
        notes=tuple(_notes(config, shape, memory, actors)),
    )


def batch_plan(config: RunConfig) -> BatchPlan:
    """The cut of one step. Whole groups make a minibatch; ranks share its rows as evenly as they divide."""
    c = config
    if c.kind == "rl":
        prompts, samples = c.prompts_per_step, int(c.algorithm.group_size)
        minibatches, epochs = int(c.algorithm.minibatches), int(c.algorithm.epochs)
        response = c.rollout.max_new_tokens
    else:
        prompts = int(getattr(c.task, "rows_per_step", c.prompts_per_step))
        samples, minibatches, epochs, response = 1, 1, 1, c.rollout.max_new_tokens
    rows = prompts * samples
    per_minibatch = rows // minibatches
    per_rank = -(-per_minibatch // c.learner.ranks)
    micro = -(-per_rank // c.learner.micro_batch_rows)
    off_policy = c.kind == "rl" and minibatches * epochs > 1
    return BatchPlan(
        prompts=prompts,
        samples=samples,
        rows=rows,
        minibatches=minibatches,
        epochs=epochs,
        rows_per_minibatch=per_minibatch,
        ranks=c.learner.ranks,
        rows_per_rank=per_rank,
        micro_batches=micro,
        row_tokens=c.rollout.max_model_len,
        tokens_per_step=rows * c.rollout.max_model_len,
        response_tokens_per_step=rows * response,
        optimizer_steps=minibatches * epochs,
        forward_backward=minibatches * epochs * micro,
        forward_only=minibatches * micro if off_policy else 0,
    )


def compute_estimate(
    config: RunConfig, shape: ShapeConfig, batch: BatchPlan, actors: tuple[ActorGroup, ...]
) -> ComputeEstimate | None:
    """Times from physical limits and assumed efficiencies; None for a run without GPUs.

    Nm matmul parameters with the head, B sequences at once, T mean context, S mean row, F matmul rate, BW
    memory bandwidth, kv bytes per token:

    - decode step >= max((2·Nm + B·T·kv)/BW, (2·Nm·B + 4·L·heads·head·T·B)/F), over ``DECODE_EFFICIENCY``
    - training 6·Nm + 6·L·heads·head·S FLOP a token (a third more time with checkpointing), log-probs alone
      a third of it, over ``MFU``
    - weight update 2·N bytes over the link
    """
    gpus = sum(a.count * a.gpus_each for a in actors)
    if not gpus or config.kind != "rl":
        return None
    r, cluster = config.rollout, config.cluster
    p = count_parameters(shape)
    rate, bandwidth = cluster.gpu_tflops * 1e12, cluster.gpu_bandwidth_tbps * 1e12
    attention = shape.num_layers * shape.num_heads * shape.head_dim
    prompt = MEAN_FRACTION * (r.max_model_len - r.max_new_tokens)
    response = MEAN_FRACTION * r.max_new_tokens
    row = prompt + response
    context = prompt + response / 2
    rows_per_engine = -(-batch.rows // r.actors)
    at_once = min(r.max_batch_rows, rows_per_engine)
    kv = kv_bytes_per_token(config, shape)
    decode_step = max(
        (2 * p.matmul + at_once * context * kv) / bandwidth,
        (2 * p.matmul * at_once + 4 * attention * context * at_once) / rate,
    ) / (r.tensor_parallel * DECODE_EFFICIENCY)
    generate = rows_per_engine * response / at_once * decode_step
    forward = (2 * p.matmul + 2 * attention * row) * row * batch.rows  # FLOP of one pass over a step's rows
    reference_gpus = max(1.0, config.reference.actors * config.reference.gpus_per_actor)
    learner_gpus = max(1.0, config.learner.ranks * config.learner.gpus_per_rank)
    passes = 3 * batch.epochs * (4 / 3 if config.learner.gradient_checkpointing else 1)
    passes += 1 if batch.forward_only else 0
    times = {
        "generate": generate,
        "reference": forward / (rate * MFU * reference_gpus),
        "train": passes * forward / (rate * MFU * learner_gpus),
        "sync": 2 * p.total / (LINK_GBPS * 1e9),
    }
    hours = config.steps * sum(times.values()) * gpus / 3600
    return ComputeEstimate(
        **times,
        gpus=gpus,
        gpu_hours=hours,
        assumptions=(
            f"GPU: {cluster.gpu_tflops:g} TFLOP/s in bfloat16, {cluster.gpu_bandwidth_tbps:g} TB/s",
            f"responses of {response:g} tokens and prompts of {prompt:g} on average (half of their limits)",
            f"training and scoring at {MFU:.0%} of the matmul rate, "
            f"decoding at {DECODE_EFFICIENCY:.0%} of its limit, {LINK_GBPS:g} GB/s for weight updates",
            "stages follow each other; evaluations, checkpoints and start-up are not counted",
        ),
    )


def _notes(
    c: RunConfig, shape: ShapeConfig, memory: dict[str, dict[str, float]], actors: tuple[ActorGroup, ...]
) -> list[str]:
    notes = []
    limit = c.cluster.gpu_memory_gib
    for actor in actors:
        parts = memory.get(actor.role)
        if not limit or not parts or not actor.gpus_each:
            continue
        room = limit * max(1.0, actor.gpus_each) if actor.gpus_each >= 1 else limit * actor.gpus_each
        used = sum(parts.values())
        if used > room:
            notes.append(f"{actor.role} does NOT fit: {used:.1f} GiB of {room:.1f} GiB")
    rows = c.rollout.max_batch_rows * c.rollout.max_model_len * kv_bytes_per_token(c, shape) / 2**30
    if "rollout" in memory and rows > memory["rollout"]["KV cache"]:
        notes.append(
            f"the KV cache holds {memory['rollout']['KV cache']:.2g} GiB, "
            f"{c.rollout.max_batch_rows} sequences of full length take {rows:.2g}: long ones wait their turn"
        )
    hidden = hidden_states_gib(c, shape)
    if getattr(c.regularizer, "estimator", "") == "full" and hidden >= 0.1:
        notes.append(
            f"estimator full: the reference's hidden states of a step, up to {hidden:.2g} GiB, go through the object "
            "store of every node that learns"
        )
    if (draws := getattr(c.algorithm, "max_draws", 1)) > 1:
        notes.append(
            f"dynamic sampling draws up to {draws * c.prompts_per_step} prompts a step, {draws} times the batch, until "
            "it is full of groups with right and wrong responses; the figures above are without these draws"
        )
    if c.model.base_recipe:
        notes.append(f"the base model comes from recipe {c.model.base_recipe}, made once and cached")
    return notes
