"""Estimates the seconds of each stage of a step on a plan's GPUs, as the code does it today, and of a sync's parts.

Times come from physical limits and assumed efficiencies; every assumption is a constant here and is printed with a
plan. Stages follow each other: nothing overlaps. Shapes: Nb matmul parameters of the layers, V·d of the head, Nm = Nb +
V·d, L layers, h heads of size a, rows of S tokens in the mean, R ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from carerl.config.plan.card_table import Card
from carerl.config.plan.cards import card_of
from carerl.config.plan.host_memory import checkpoint_bytes, sync_bytes
from carerl.config.plan.memory import BYTES, kv_bytes_per_token
from carerl.config.roles import Node
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import Parameters, count_parameters

# [ours] How much of a data sheet's rate is reached
MFU_TRAIN = 0.35  # of the bfloat16 rate, in the learner's layers: padded micro-batches, sharded, not compiled
MFU_SCORE = 0.45  # of the bfloat16 rate, in a forward pass of the reference's layers
FP32_SUSTAINED = 0.75  # of the float32 rate, in the head's products
DECODE_EFFICIENCY = 0.5  # of a decode step's physical limit
LINK_EFFICIENCY = 0.7  # of the link between GPUs
# [ours] What a batch looks like
MEAN_RESPONSE = 0.4  # of rollout.max_new_tokens
MEAN_PROMPT = 0.15  # of what the lengths leave for a prompt
PADDED = 1.5  # tokens with padding to tokens, in micro-batches of rows as they come (reference)
PADDED_SORTED = 1.07  # in micro-batches of rows of like length (learner)
# [ours] The engine's own Python, in the process that decodes: it fits 8 ms for 256 sequences
STEP_S, SEQUENCE_S = 2e-3, 23e-6  # a decode step, and each of its sequences
# GB/s of one core, measured by tests/benchmarks/sync_stages.py on a core of an AMD EPYC, torch 2.13
CAST, TOBYTES, CRC32, PICKLE, UNPICKLE = 4.0, 2.5, 6.9, 1.2, 1.25
# [ours] GB/s, not measured here
TO_HOST = 2.5  # from a GPU to pageable memory, by every rank of a node at one time
TO_GPU = 5.0  # from pageable memory to a GPU
STORE = 4.0  # a copy into Ray's object store
NETWORK = 2.0  # one object from node to node
FABRIC = 50.0  # a GPU's own share of the network between nodes, for learners that span some
DISK = 1.0  # of the shared file system; the same again for reading back and hashing
TABLE_S = 1e-5  # a token of a rollout table, in the driver
CAST_THREADS = 4  # at most: beyond, memory bandwidth is the limit


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

    def head_seconds(self, products: float, share: float, actors: int) -> float:
        """Returns the seconds of float32 products with the head, for a share of the response tokens, over actors."""
        flop = products * 2 * self.head * self.rows * self.response * share / actors
        return flop / (self.card.fp32_tflops * FP32_SUSTAINED * 1e12)

    def rate(self, dtype: str) -> float:
        """Returns the FLOP/s of products in a dtype. Nothing turns TF32 on: all but bfloat16 is at float32's rate."""
        return (self.card.bf16_tflops if dtype == "bfloat16" else self.card.fp32_tflops) * 1e12


def work_of(config: RunConfig, shape: ShapeConfig, nodes: Sequence[Node]) -> Work:
    """Returns a step of the mean lengths that are assumed."""
    r = config.rollout
    rows = config.prompts_per_step * config.algorithm.group_size
    prompt, response = MEAN_PROMPT * (r.max_model_len - r.max_new_tokens), MEAN_RESPONSE * r.max_new_tokens
    return Work(config, shape, nodes, rows, prompt, response)


def stage_seconds(work: Work) -> dict[str, float]:
    """Returns the seconds of a step by stage; what is not done in every step is spread over all."""
    c = work.config
    due = reference_share(c)
    exact = sends_hidden(c)
    table = table_seconds(work) if c.tracking.rollouts_every else 0.0
    return {
        "generate": generate_seconds(work, work.rows),
        "reference": due * reference_seconds(work, exact),
        "old log-probs": old_logprobs_seconds(work),
        "layers": layers_seconds(work),
        "head": training_head_seconds(work, due),
        "weight sync": sum(sync_parts(work).values()),
        "parity probe": probe_seconds(work) / c.sync.probe_every if c.sync.probe_every else 0.0,
        "rollout table": due * table / max(1, c.tracking.rollouts_every),
        "checkpoint": checkpoint_seconds(work) * _checkpoints(c) / c.steps,
    }


def reference_share(c: RunConfig) -> float:
    """Returns the share of steps that ask the reference: all with a penalty, now and then without one."""
    if c.regularizer.beta > 0:
        return 1.0
    return 1.0 / c.reference.report_every if c.reference.report_every else 0.0


def sends_hidden(c: RunConfig) -> bool:
    """Returns whether the reference sends hidden states in an ordinary step, as
    :func:`carerl.loss.objective.needs_hidden`."""
    return c.regularizer.estimator == "full" or c.regularizer.beta == 0


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
    """Returns the seconds of the reference on its own GPUs: layers of rows as they come, padded to the longest of a
    micro-batch; then either the head in float32, or hidden states on their way to every rank."""
    c, actors = work.config, work.config.reference.actors
    padded = PADDED if c.reference.micro_batch_rows > 1 else 1.0
    layers = padded * work.layers_flop() * work.tokens / actors / (work.rate(c.reference.compute_dtype) * MFU_SCORE)
    return layers + (hidden_seconds(work) if with_hidden else work.head_seconds(1, 1.0, actors))


def hidden_seconds(work: Work) -> float:
    """Returns the seconds in which a batch's hidden states go from the reference to the learner: copied, pickled and
    stored by each actor, sent to another node, and all of them unpickled by every rank."""
    c = work.config
    size = BYTES[c.reference.compute_dtype] * work.rows * work.response * work.shape.hidden_size / 1e9
    own = size / c.reference.actors
    away = not any("learner" in node.actors and "reference" in node.actors for node in work.nodes)
    return own * (1 / TO_HOST + 1 / PICKLE + 1 / STORE) + (size / NETWORK if away else 0.0) + size / UNPICKLE


def layers_seconds(work: Work) -> float:
    """Returns the seconds of the learner's layers in all optimizer steps: forward and backward, three forward passes'
    FLOP and with checkpointing four; or the time of the links, where that is longer."""
    c = work.config
    passes = c.algorithm.epochs * (4 if c.learner.gradient_checkpointing else 3)
    compute = passes * _forward_seconds(work, 1.0)
    updates = c.algorithm.minibatches * c.algorithm.epochs
    micro = updates * math.ceil(_rows_per_rank(work) / c.learner.micro_batch_rows)
    wide = BYTES["float64" if c.learner.compute_dtype == "float64" else "float32"]
    return max(compute, micro * _link_seconds(work, 2 * BYTES[c.learner.compute_dtype] + wide))


def _forward_seconds(work: Work, share: float) -> float:
    """Returns the seconds of one forward pass of the learner's layers over a share of the rows."""
    c = work.config.learner
    flop = PADDED_SORTED * work.layers_flop() * work.tokens * share / c.ranks
    return flop / (work.rate(c.compute_dtype) * MFU_TRAIN)


def _rows_per_rank(work: Work) -> int:
    return math.ceil(work.rows / work.config.algorithm.minibatches / work.config.learner.ranks)


def _link_seconds(work: Work, bytes_each: int) -> float:
    """Returns the seconds of one micro-batch on the links: FSDP2 gathers and reduces ``bytes_each`` of every parameter,
    (R − 1)/R of it from other GPUs of the node, or over the network where ranks are on several nodes."""
    ranks = work.config.learner.ranks
    spans = sum("learner" in node.actors for node in work.nodes) > 1
    link = min(work.card.link_gbps, FABRIC) if spans else work.card.link_gbps
    return bytes_each * work.parameters.total * (ranks - 1) / ranks / (link * LINK_EFFICIENCY * 1e9)


def training_head_seconds(work: Work, due: float) -> float:
    """Returns the seconds of the head in training: four products a response token in float32 (log-probs, again in the
    backward pass, and two gradients), and where hidden states come with the batch the reference's, once in the forward
    pass and once more in the backward pass of an exact divergence."""
    c = work.config
    extra = (2.0 if c.regularizer.beta > 0 else 1.0) * due if sends_hidden(c) else 0.0
    return c.algorithm.epochs * work.head_seconds(4 + extra, 1.0, c.learner.ranks)


def old_logprobs_seconds(work: Work) -> float:
    """Returns the seconds of the pass before the first update, over the rows of all minibatches but the first."""
    minibatches = work.config.algorithm.minibatches
    share = (minibatches - 1) / minibatches
    return _score_seconds(work, share, 1)


def _score_seconds(work: Work, share: float, products: float) -> float:
    return _forward_seconds(work, share) + work.head_seconds(products, share, work.config.learner.ranks)


def sync_parts(work: Work) -> dict[str, float]:
    """Returns the seconds of a weight sync by part, through host memory and Ray's object store. All ranks gather and
    copy all weights in float32; the first one sends them; every engine works on its own copy."""
    c = work.config
    threads = c.learner.threads or max(1, int(c.learner.cpus_per_rank))
    wide, sent = 4 * work.parameters.total / 1e9, sync_bytes(c, work.shape) / 1e9
    narrows = c.model.dtype != "float32"
    first = next((node for node in work.nodes if "learner" in node.actors), None)
    away = any("rollout" in node.actors and node is not first for node in work.nodes)
    checked = sent / TOBYTES + sent / CRC32
    return {
        "GPU to host": wide / TO_HOST if c.learner.gpus_per_rank else 0.0,
        "cast": wide / (CAST * min(threads, CAST_THREADS)) if narrows else 0.0,
        "checksum": checked,
        "pickle": sent / PICKLE + sent / STORE,
        "network": sent / NETWORK if away else 0.0,
        "unpickle": sent / UNPICKLE,
        "checksum again": checked,
        "host to GPU": sent / TO_GPU if c.rollout.gpus_per_actor else 0.0,
    }


def probe_seconds(work: Work) -> float:
    """Returns the seconds of one parity probe: a few sequences to their full length."""
    rows = math.ceil(work.config.sync.probe_prompts / work.config.rollout.actors)
    return work.config.rollout.max_new_tokens * decode_step_seconds(work, rows)


def table_seconds(work: Work) -> float:
    """Returns the seconds of one rollout table: a pass of the learner with both heads, the driver's lists of every
    token and, where the step has not sent hidden states, a pass of the reference that does."""
    again = 0.0 if sends_hidden(work.config) else reference_seconds(work, True)
    return again + _score_seconds(work, 1.0, 2) + TABLE_S * work.rows * work.response


def checkpoint_seconds(work: Work) -> float:
    """Returns the seconds of one checkpoint: the export's way to the host, everything written, read back and hashed."""
    to_host = 4 * work.parameters.total / 1e9 / TO_HOST if work.config.learner.gpus_per_rank else 0.0
    return to_host + 2 * checkpoint_bytes(work.config, work.shape) / 1e9 / DISK


def _checkpoints(c: RunConfig) -> int:
    """Counts the checkpoints of a run: every ``checkpoint.every`` steps and at the end."""
    return math.ceil(c.steps / c.checkpoint.every) if c.checkpoint.every else 1


def assumptions(work: Work) -> tuple[str, ...]:
    """Returns what the seconds assume, in words, beside the card's figures."""
    sync = sync_parts(work)
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in sync.items() if seconds >= 0.5)
    return (
        f"responses of {work.response:.0f} tokens and prompts of {work.prompt:.0f} in the mean "
        f"({MEAN_RESPONSE:.0%} and {MEAN_PROMPT:.0%} of their limits), one response of full length in every step",
        f"{MFU_TRAIN:.0%} of the matmul rate in training and {MFU_SCORE:.0%} in scoring, {FP32_SUSTAINED:.0%} of the "
        f"float32 rate in the head, {DECODE_EFFICIENCY:.0%} of a decode step's limit and then "
        f"{STEP_S * 1e3:g} ms + {SEQUENCE_S * 1e6:g} us a sequence of Python",
        f"padding: {PADDED:g} times the tokens in the reference, {PADDED_SORTED:g} in the learner",
        f"weight sync in seconds: {parts or 'less than 1'}; in GB/s pickle {PICKLE:g}, unpickle {UNPICKLE:g}, copy "
        f"{TOBYTES:g}, CRC-32 {CRC32:g} and cast {CAST:g} a core (measured), GPU to host {TO_HOST:g}, host to GPU "
        f"{TO_GPU:g}, object store {STORE:g}, network {NETWORK:g} (assumed)",
        f"shared file system at {DISK:g} GB/s",
        "stages follow each other; start-up and grading are not counted, nor are evaluations: "
        f"1,000 responses take about {generate_seconds(work, 1000):,.0f} s",
    )
