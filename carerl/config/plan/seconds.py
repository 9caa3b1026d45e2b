"""Estimates the seconds of each stage of a step on a plan's GPUs, as the code does it today, and of a sync's parts.

Times come from physical limits and assumed efficiencies; every assumption is a constant here and is printed with a
plan. Stages follow each other: nothing overlaps. Shapes: Nb matmul parameters of the layers, V·d of the head, Nm = Nb +
V·d, L layers, h heads of size a, rows of S tokens in the mean, R ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from carerl.config.plan.cards import card_of
from carerl.config.plan.memory import kv_bytes_per_token
from carerl.config.plan.rates import (
    BF16_HEAD,
    COPY,
    DECODE_EFFICIENCY,
    DIGEST,
    FABRIC,
    FP32_SUSTAINED,
    LINK_EFFICIENCY,
    MEAN_PROMPT,
    MEAN_RESPONSE,
    MFU_SCORE,
    MFU_TRAIN,
    NETWORK,
    PADDED,
    PADDED_REFERENCE,
    PICKLE,
    PINNED,
    SEQUENCE_S,
    STEP_S,
    STORE,
    TABLE_S,
    TO_GPU,
    TO_HOST,
    TO_HOST_ALONE,
    TURN_S,
    UNPICKLE,
)
from carerl.config.plan.rows import rows_of
from carerl.config.plan.sharding import BYTES, on_device, saved_bytes, shard_ranks, traffic
from carerl.config.plan.sync import WAYS, exported_bytes, planned_kind, sync_parts
from carerl.config.roles import Node, reference_in_learner, shares_gpu
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.schema.cards import Card
from carerl.config.shapes import Parameters, count_parameters


@dataclass(frozen=True)
class Work:
    """Holds what one step is, for the functions below: rows of mean lengths, and the hardware that meets them."""

    config: RunConfig
    shape: ShapeConfig
    nodes: Sequence[Node]
    rows: int
    prompt: float  # mean tokens
    response: float

    @property
    def card(self) -> Card:
        return card_of(self.config)

    @property
    def parameters(self) -> Parameters:
        return count_parameters(self.shape)

    @property
    def head(self) -> int:
        return self.shape.vocab_size * self.shape.hidden_size

    @property
    def tokens(self) -> float:
        return self.rows * (self.prompt + self.response)

    def layers_flop(self) -> float:
        """Returns the FLOP of the layers, forward, for a token: 2·Nb, and 2·L·h·a·S of causal attention."""
        attention = self.shape.num_layers * self.shape.num_heads * self.shape.head_dim
        return 2 * (self.parameters.matmul - self.head) + 2 * attention * (self.prompt + self.response)

    def head_seconds(self, products: float, share: float, actors: int, dtype: str) -> float:
        """Returns the seconds of products with a head in ``dtype``, for a share of the response tokens, over actors."""
        flop = products * 2 * self.head * self.rows * self.response * share / actors
        return flop / (self.rate(dtype) * (BF16_HEAD if dtype == "bfloat16" else FP32_SUSTAINED))

    def rate(self, dtype: str) -> float:
        """Returns the FLOP/s of products in a dtype. Nothing turns TF32 on: all but bfloat16 is at float32's rate."""
        return (self.card.bf16_tflops if dtype == "bfloat16" else self.card.fp32_tflops) * 1e12


def work_of(config: RunConfig, shape: ShapeConfig, nodes: Sequence[Node]) -> Work:
    """Returns a step of the mean lengths that are assumed."""
    r = config.rollout
    rows = rows_of(config).total
    prompt, response = MEAN_PROMPT * (r.max_model_len - r.max_new_tokens), MEAN_RESPONSE * r.max_new_tokens
    return Work(config, shape, nodes, rows, prompt, response)


def stage_seconds(work: Work) -> dict[str, float]:
    """Returns the seconds of a step by stage; what is not done in every step is spread over all."""
    c = work.config
    checkpoint = checkpoint_seconds(work) * _checkpoints(c) / c.steps
    if c.taught:  # engines and reference work in evaluations alone
        return {
            "layers": layers_seconds(work),
            "head": training_head_seconds(work, 0.0),
            "weight sync": sum(sync_parts(c, work.shape, work.nodes).values()) * _evaluations(c) / c.steps,
            "taking turns": turn_seconds(work) * _evaluations(c) / c.steps,
            "checkpoint": checkpoint,
        }
    due = reference_share(c)
    exact = sends_hidden(c)
    table = table_seconds(work) if c.tracking.rollouts_every else 0.0
    return {
        "generate": generate_seconds(work, work.rows),
        "reference": due * reference_seconds(work, exact),
        "old log-probs": old_logprobs_seconds(work),
        "layers": layers_seconds(work),
        "head": training_head_seconds(work, reference_products(c, due)),
        "part norms": part_norms_seconds(work, due),
        "weight sync": sum(sync_parts(c, work.shape, work.nodes).values()),
        "taking turns": turn_seconds(work),
        "parity probe": probe_seconds(work) / c.sync.probe_every if c.sync.probe_every else 0.0,
        "rollout table": due * table / max(1, c.tracking.rollouts_every),
        "checkpoint": checkpoint,
    }


def turn_seconds(work: Work) -> float:
    """Returns the seconds in which a shared GPU goes from the engine to the rank and back."""
    if not shares_gpu(work.config):
        return 0.0
    moved = on_device(work.config, work.shape).optimizer if work.config.learner.optimizer_offload else 0.0
    return TURN_S + 2 * moved / (PINNED * 1e9)


def reference_share(c: RunConfig) -> float:
    """Returns the share of steps that ask the reference for all rows: all with a penalty, now and then without one."""
    if c.regularizer.beta > 0:
        return 1.0
    return 1.0 / c.reference.report_every if c.reference.report_every else 0.0


def sends_hidden(c: RunConfig) -> bool:
    """Returns whether the reference sends hidden states in an ordinary step, as
    :func:`carerl.loss.objective.needs_hidden`."""
    return c.regularizer.estimator == "full" or c.regularizer.beta == 0 or c.anchor.exact


def decode_step_seconds(work: Work, rows: float) -> float:
    """Returns the seconds of one decode step of ``rows`` sequences on one engine.

    GPU: max((b·Nm + rows·context·kv)/bandwidth, (2·Nm + 4·L·h·a·context)·rows/rate) over tensor parallelism and
    ``DECODE_EFFICIENCY``; then the engine's own Python, which runs in the same process."""
    r, shape, matmul = work.config.rollout, work.shape, work.parameters.matmul
    context = work.prompt + work.response / 2
    attention = shape.num_layers * shape.num_heads * shape.head_dim
    read = BYTES[work.config.model.dtype] * matmul + rows * context * kv_bytes_per_token(work.config, shape)
    flop = (2 * matmul + 4 * attention * context) * rows
    limit = max(read / (work.card.bandwidth_tbps * 1e12), flop / work.rate(work.config.model.dtype))
    return limit / (r.tensor_parallel * DECODE_EFFICIENCY) + STEP_S + SEQUENCE_S * rows


def generate_seconds(work: Work, rows: int) -> float:
    """Returns the seconds until ``rows`` responses have ended. One of them is assumed to be of full length and among
    the last to start: its decode steps, after those in which what is in front of it is decoded."""
    r = work.config.rollout
    mine = math.ceil(rows / r.actors)
    at_once = min(mine, r.max_batch_rows)
    steps = r.max_new_tokens + (mine - at_once) * work.response / at_once
    open_rows = mine * work.response / steps  # in the mean over these steps
    return steps * decode_step_seconds(work, open_rows)


def reference_seconds(work: Work, with_hidden: bool) -> float:
    """Returns the seconds of the reference's layers, on rows of like length; then either of its head, or of hidden
    states on their way to the ranks. On the learner's ranks it runs once an epoch, and nothing is on its way; the head
    of hidden states is counted with the learner's own."""
    c = work.config
    inside = reference_in_learner(c)
    actors, passes = (c.learner.ranks, c.algorithm.epochs) if inside else (c.reference.actors, 1)
    padded = PADDED if inside else PADDED_REFERENCE if c.reference.micro_batch_rows > 1 else 1.0
    layers = padded * work.layers_flop() * work.tokens / actors / (work.rate(c.reference.compute_dtype) * MFU_SCORE)
    if with_hidden:
        return passes * layers + (0.0 if inside else hidden_seconds(work))
    return passes * (layers + work.head_seconds(1, 1.0, actors, c.reference.compute_dtype))


def hidden_seconds(work: Work) -> float:
    """Returns the seconds in which a batch's hidden states go from the reference to the learner: copied, pickled and
    stored by each actor, sent to another node, and unpickled by each rank, its own rows alone."""
    c = work.config
    size = BYTES[c.reference.compute_dtype] * work.rows * work.response * work.shape.hidden_size / 1e9
    own = size / c.reference.actors
    away = not any("learner" in node.actors and "reference" in node.actors for node in work.nodes)
    sent = own * (1 / TO_HOST + 1 / PICKLE + 1 / STORE) + (size / NETWORK if away else 0.0)
    return sent + size / c.learner.ranks / UNPICKLE


def layers_seconds(work: Work) -> float:
    """Returns the seconds of the learner's layers in all optimizer steps: forward and backward, three forward passes'
    FLOP and with checkpointing one more; frozen weights have no gradient, which is one less. Or the time of the links,
    where that is longer. What adapters themselves compute is not counted: 1 % or less of their layers."""
    step = rows_of(work.config)
    updates = step.minibatches * step.epochs
    micro = math.ceil(_rows_per_rank(work) / work.config.learner.micro_batch_rows)
    return max(layers_compute_seconds(work), updates * _link_seconds(work, micro))


def layers_compute_seconds(work: Work) -> float:
    """Returns what the layers compute in all optimizer steps, whatever the links do meanwhile."""
    c = work.config
    passes = rows_of(c).epochs * (3 + c.learner.gradient_checkpointing - (c.learner.lora.rank > 0))
    return passes * _forward_seconds(work, 1.0)


def _forward_seconds(work: Work, share: float) -> float:
    """Returns the seconds of one forward pass of the learner's layers over a share of the rows."""
    c = work.config.learner
    flop = PADDED * work.layers_flop() * work.tokens * share / c.ranks
    return flop / (work.rate(c.compute_dtype) * MFU_TRAIN)


def _rows_per_rank(work: Work) -> int:
    return math.ceil(rows_of(work.config).per_minibatch / work.config.learner.ranks)


def _link_seconds(work: Work, micro_batches: int) -> float:
    """Returns the seconds of one update on the links: those of a node, or the network where the ranks that hold the
    model together are on several nodes. What goes between replicas always takes the network."""
    c, moved = work.config, traffic(work.config, work.shape)
    here = max(node.actors.get("learner", 0) for node in work.nodes)
    inside = work.card.link_gbps if shard_ranks(c) <= here else min(work.card.link_gbps, FABRIC)
    near, far = moved.micro_batch * micro_batches + moved.update, moved.across
    return (near / inside + far / min(work.card.link_gbps, FABRIC)) / (LINK_EFFICIENCY * 1e9)


def reference_products(c: RunConfig, due: float) -> float:
    """Returns the products with the reference's head of a response token, where the reference is asked in a share
    ``due`` of the steps. Where hidden states come with the batch: one in the forward pass, and one more in the backward
    pass of an exact divergence."""
    return (2.0 if c.regularizer.beta > 0 else 1.0) * due if due and sends_hidden(c) else 0.0


def training_head_seconds(work: Work, extra: float) -> float:
    """Returns the seconds of the head in training. Products a response token: log-probs, again in the backward pass,
    and two gradients, or one where the head is frozen, each of two terms in bfloat16 (:mod:`carerl.loss.products`): 4,
    or 6 in bfloat16. ``extra``: those with the reference's head (:func:`reference_products`)."""
    c = work.config
    own, other = c.learner.compute_dtype, c.reference.compute_dtype
    gradients = 1 if c.learner.lora.rank else 2
    seconds = work.head_seconds(2 + gradients * (2 if own == "bfloat16" else 1), 1.0, c.learner.ranks, own)
    return rows_of(c).epochs * (seconds + work.head_seconds(extra, 1.0, c.learner.ranks, other))


def part_norms_seconds(work: Work, due: float) -> float:
    """Returns the seconds of the passes that measure the gradient norm of each part of the loss: one of an update for
    each part that is on."""
    c = work.config
    if not c.tracking.part_norms_every:
        return 0.0
    parts = 1 + (c.regularizer.beta > 0 and c.regularizer.place == "loss")
    parts += bool(c.algorithm.entropy_bonus or c.algorithm.entropy_target)
    parts += c.decision.trains and c.decision.weight > 0
    parts += c.anchor.on
    parts += c.distillation.learns
    head = training_head_seconds(work, reference_products(c, due))
    update = (layers_seconds(work) + head) / (c.algorithm.minibatches * c.algorithm.epochs)
    return parts * update / c.tracking.part_norms_every


def old_logprobs_seconds(work: Work) -> float:
    """Returns the seconds of the pass before the first update, over the rows of all minibatches but the first."""
    minibatches = work.config.algorithm.minibatches
    share = (minibatches - 1) / minibatches
    return score_seconds(work, share)


def score_seconds(work: Work, share: float, with_reference: bool = False) -> float:
    """Returns the seconds of a pass for log-probs alone, with the reference's head or without."""
    c = work.config
    dtypes = [c.learner.compute_dtype] + [c.reference.compute_dtype] * with_reference
    heads = sum(work.head_seconds(1, share, c.learner.ranks, dtype) for dtype in dtypes)
    return _forward_seconds(work, share) + heads


def probe_seconds(work: Work) -> float:
    """Returns the seconds of one parity probe: a few sequences to their full length."""
    rows = math.ceil(work.config.sync.probe_prompts / work.config.rollout.actors)
    return work.config.rollout.max_new_tokens * decode_step_seconds(work, rows)


def table_seconds(work: Work) -> float:
    """Returns the seconds of one rollout table: a pass of the learner with both heads, the driver's lists of every
    token and, where the step has not sent hidden states, a pass of the reference that does."""
    again = 0.0 if sends_hidden(work.config) else reference_seconds(work, True)
    return again + score_seconds(work, 1.0, with_reference=True) + TABLE_S * work.rows * work.response


def checkpoint_seconds(work: Work) -> float:
    """Returns the seconds that training waits for a checkpoint: every rank copies what it saves to the host, and the
    first one the whole model too. Files are written while training goes on."""
    c = work.config
    all_ranks, alone = (TO_HOST, TO_HOST_ALONE) if c.learner.gpus_per_rank else (COPY, COPY)
    return (saved_bytes(c, work.shape) / all_ranks + exported_bytes(c, work.shape) / alone) / 1e9


def _checkpoints(c: RunConfig) -> int:
    """Counts the checkpoints of a run: every ``checkpoint.every`` steps and at the end."""
    return math.ceil(c.steps / c.checkpoint.every) if c.checkpoint.every else 1


def _evaluations(c: RunConfig) -> int:
    """Counts the evaluations of a run after its first step."""
    between = (c.steps - 1) // c.evaluation.every if c.evaluation.every else 0
    return between + c.evaluation.at_end


def _head_rate(c: RunConfig) -> str:
    """Returns what the learner's head is assumed to reach, in words."""
    narrow = c.learner.compute_dtype == "bfloat16"
    return f"{BF16_HEAD:.0%} of the bfloat16 rate" if narrow else f"{FP32_SUSTAINED:.0%} of the float32 rate"


def assumptions(work: Work) -> tuple[str, ...]:
    """Returns what the seconds assume, in words, beside the card's figures."""
    sync = sync_parts(work.config, work.shape, work.nodes)
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in sync.items() if seconds >= 0.05)
    apart = f"{PADDED_REFERENCE:g} times the tokens in the reference's actors, "
    apart = "" if reference_in_learner(work.config) else apart
    return (
        f"responses of {work.response:.0f} tokens and prompts of {work.prompt:.0f} in the mean "
        f"({MEAN_RESPONSE:.0%} and {MEAN_PROMPT:.0%} of their limits), one response of full length in every step",
        f"{MFU_TRAIN:.0%} of the matmul rate in training and {MFU_SCORE:.0%} in scoring, {_head_rate(work.config)} in "
        f"the head, {DECODE_EFFICIENCY:.0%} of a decode step's limit and then "
        f"{STEP_S * 1e3:g} ms + {SEQUENCE_S * 1e6:g} us a sequence of Python",
        f"padding: {apart}{PADDED:g} times the tokens in the learner",
        f"weight sync {WAYS[planned_kind(work.config, work.nodes)]}, in seconds: {parts or 'less than 0.1'}; in GB/s "
        f"copy {COPY:g}, digest {DIGEST:g}, pickle {PICKLE:g} and unpickle {UNPICKLE:g} a core (measured), GPU to host "
        f"{TO_HOST:g}, from one rank alone {TO_HOST_ALONE:g}, host to GPU {TO_GPU:g}, object store {STORE:g}, network "
        f"{NETWORK:g}, a GPU's share of the network {FABRIC:g} (assumed)",
        "stages follow each other; start-up and grading are not counted, nor are evaluations: "
        f"1,000 responses take about {generate_seconds(work, 1000):,.0f} s",
    )
