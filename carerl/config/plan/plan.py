"""Plans a run before it starts: actors and placement, batches, memory, seconds, GPU-hours.

Needs no weights, no Ray and no GPU: everything follows from the settings and the model's shape. Only prompts are
counted from the data, if data and tokenizer are on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carerl.config.check.prompts import planned_prompts
from carerl.config.load import dump
from carerl.config.plan.beside import beside_assumptions, beside_seconds
from carerl.config.plan.cards import card_of, describe_card
from carerl.config.plan.host_memory import NodeMemory, checkpoint_bytes, disk_bytes, host_memory
from carerl.config.plan.memory import (
    GIB,
    Overflow,
    Parts,
    actor_memory,
    exact_divergence,
    hidden_states_gib,
    kv_bytes_per_token,
    loading_gib,
    overflows,
)
from carerl.config.plan.resident import resident_parts
from carerl.config.plan.rounds import round_lines, round_seconds
from carerl.config.plan.rows import rows_of
from carerl.config.plan.seconds import assumptions, stage_seconds, work_of
from carerl.config.plan.sharding import trained
from carerl.config.plan.shared import Moment, shared_moments, shared_overflows
from carerl.config.plan.sync import WAYS, planned_kind, sync_bytes
from carerl.config.roles import ActorGroup, Node, actor_groups, place, reference_in_learner
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import Parameters, count_parameters, effective_shape


@dataclass(frozen=True)
class BatchPlan:
    """Says how one step's data is cut up. ``rows`` are responses (RL, finetune) or corpus rows (sft)."""

    named: tuple[str, str]  # what the next two count
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
    forward_only: int  # per rank and step: log-probs before the first update, of all minibatches but the first


@dataclass(frozen=True)
class ComputeEstimate:
    """Seconds of one step by stage, and GPU-hours of the run, evaluations not counted."""

    stages: dict[str, float]
    gpus: float
    gpu_hours: float
    assumptions: tuple[str, ...]

    @property
    def step(self) -> float:
        return sum(self.stages.values())


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
    card: str  # what is counted with, in words; empty without GPUs
    card_gib: float  # of that card
    memory: dict[str, Parts]  # role -> part -> GiB of one actor
    loading: dict[str, float]  # role -> GiB of one actor's GPU while it loads, for roles on GPUs
    shared: tuple[Moment, ...]  # of a GPU that an engine and a rank of the learner share; empty where none is
    overflows: tuple[Overflow, ...]  # actors that do not fit their GPUs, or hardly
    resident: dict[str, Parts]  # role -> part -> GiB of main memory of its largest actor, at its peak
    host: tuple[NodeMemory, ...]  # of each node; empty where no actor has a model
    sync_bytes: int  # of one weight sync, to each engine
    sync_way: str  # how weights go, in words
    checkpoint_bytes: int  # of one checkpoint
    disk_bytes: int  # of all checkpoints of a run, at most
    compute: ComputeEstimate | None  # None without GPUs
    notes: tuple[str, ...]
    prompts: tuple[str, ...] = ()  # what is known of their lengths

    @property
    def fits(self) -> bool:
        """False if an actor is beyond the memory of its GPUs."""
        return all(overflow.fits for overflow in self.overflows)


def plan(config: RunConfig) -> Plan:
    """Makes the plan of a validated run. Raises ConfigError when an actor needs more GPUs than a node has."""
    shape, origin = effective_shape(config)
    actors, nodes = tuple(actor_groups(config)), tuple(place(config))
    on_gpus = [group.role for group in actors if group.gpus_each]
    memory = actor_memory(config, shape, actors)
    found = (*overflows(config, shape, actors), *shared_overflows(config, shape))
    return Plan(
        title=f"{config.recipe}: {config.description}",
        recipe=dump(config),
        shape=shape,
        shape_origin=origin,
        parameters=count_parameters(shape),
        actors=actors,
        nodes=nodes,
        batch=batch_plan(config),
        card=describe_card(config) if on_gpus else "",
        card_gib=card_of(config).memory_gib,
        memory=memory,
        loading={role: loading_gib(role, config, shape) for role in on_gpus if role in memory},
        shared=shared_moments(config, shape),
        overflows=found,
        resident={group.role: resident_parts(config, shape, group.role) for group in actors},
        host=host_memory(config, shape, nodes) if memory else (),
        sync_bytes=sync_bytes(config, shape),
        sync_way=WAYS[planned_kind(config, nodes)],
        checkpoint_bytes=checkpoint_bytes(config, shape),
        disk_bytes=disk_bytes(config, shape),
        compute=compute_estimate(config, shape, nodes),
        notes=(*_notes(config, shape, memory), *_across_nodes(config, nodes)),
        prompts=planned_prompts(config),
    )


def batch_plan(config: RunConfig) -> BatchPlan:
    """Cuts one step into minibatches of whole groups, whose rows the ranks share as evenly as possible."""
    c, step = config, rows_of(config)
    per_rank = -(-step.per_minibatch // c.learner.ranks)
    micro = -(-per_rank // c.learner.micro_batch_rows)
    later = -(-(step.total - step.per_minibatch) // c.learner.ranks)  # rows a rank whose minibatch meets other weights
    passes = step.minibatches * step.epochs * micro  # each pair is scored before it is trained
    return BatchPlan(
        named=("pairs", "responses") if c.prefers else ("prompts", "samples"),
        prompts=step.prompts,
        samples=step.samples,
        rows=step.total,
        minibatches=step.minibatches,
        epochs=step.epochs,
        rows_per_minibatch=step.per_minibatch,
        ranks=c.learner.ranks,
        rows_per_rank=per_rank,
        micro_batches=micro,
        row_tokens=c.rollout.max_model_len,
        tokens_per_step=step.total * c.rollout.max_model_len,
        response_tokens_per_step=step.total * c.rollout.max_new_tokens,
        optimizer_steps=step.minibatches * step.epochs,
        forward_backward=passes,
        forward_only=passes if c.prefers else -(-later // c.learner.micro_batch_rows),
    )


def compute_estimate(config: RunConfig, shape: ShapeConfig, nodes: tuple[Node, ...]) -> ComputeEstimate | None:
    """Estimates the seconds of a step and the GPU-hours, see :mod:`carerl.config.plan.seconds`; None for a run without
    GPUs."""
    gpus = sum(a.count * a.gpus_each for a in actor_groups(config))
    if not gpus or not config.trains_on_questions:
        return None
    work = work_of(config, shape, nodes)
    stages = round_seconds(work) if config.prefers else {**stage_seconds(work), **beside_seconds(work)}
    hours = config.steps * sum(stages.values()) * gpus / 3600
    return ComputeEstimate(stages, gpus, hours, (*assumptions(work), *beside_assumptions(config)))


def _across_nodes(c: RunConfig, nodes: Sequence[Node]) -> list[str]:
    """Returns the advice to hold the model once on each node, where the learner's ranks are on several."""
    held = [node.actors["learner"] for node in nodes if "learner" in node.actors]
    if c.learner.backend != "fsdp2" or c.learner.shard_ranks or len(held) < 2 or len(set(held)) > 1:
        return []
    return [
        f"the learner's {c.learner.ranks} ranks hold the model once together, over {len(held)} nodes: weights cross "
        f"the network in every micro-batch. learner.shard_ranks={held[0]} holds it once on each node, which takes "
        f"{len(held)} times the memory for weights, gradients and optimizer"
    ]


def _notes(c: RunConfig, shape: ShapeConfig, memory: dict[str, Parts]) -> list[str]:
    notes = [*c.decision.lines(c), *c.anchor.lines(c), *c.distillation.lines(c)]
    if c.prefers:
        notes += round_lines(c)
    if lora := c.learner.lora.rank:
        adapters, whole = trained(c, shape), count_parameters(shape).total
        notes.append(
            f"adapters of rank {lora} on {', '.join(c.learner.lora.targets)}: {adapters:,} parameters are trained and "
            f"sent to the engines, {adapters / whole:.2g} times the model's {whole:,}, which stay in "
            f"{c.model.dtype if c.learner.backend == 'fsdp2' else c.learner.compute_dtype} without gradients and "
            "optimizer state; the reference is the learner without its adapters, not a second model"
        )
    rows = c.rollout.max_batch_rows * c.rollout.max_model_len * kv_bytes_per_token(c, shape) / GIB
    if "rollout" in memory and rows > memory["rollout"]["KV cache"]:
        notes.append(
            f"the KV cache holds {memory['rollout']['KV cache']:.2g} GiB, "
            f"{c.rollout.max_batch_rows} sequences of full length take {rows:.2g}: long ones wait their turn"
        )
    hidden = hidden_states_gib(c, shape)
    if exact_divergence(c) and hidden >= 0.1 and not reference_in_learner(c):
        notes.append(
            f"an exact divergence: the reference's hidden states of a step, up to {hidden:.2g} GiB, go through the "
            "object store of every node that learns; with reference.place=learner nothing of it travels"
        )
    if c.algorithm is not None and (draws := c.algorithm.max_draws) > 1:
        notes.append(
            f"dynamic sampling draws up to {draws * c.prompts_per_step} prompts a step, {draws} times the batch, until "
            "it is full of groups with right and wrong responses; the figures above are without these draws"
        )
    if c.model.base_recipe:
        notes.append(f"the base model comes from recipe {c.model.base_recipe}, made once and cached")
    if c.decision.needed:
        asked = ", and asking the engines for the likeliest option," if c.decision.reward == "argmax" else ""
        notes.append(f"finding the decisions of each step's responses{asked} is not in the seconds above")
    return notes
