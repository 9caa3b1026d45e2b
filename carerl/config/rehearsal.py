"""A recipe made small enough for a laptop, with everything in it that is not size.

``rehearse=true`` keeps data, tokenizer, chat template, vocabulary, prompts and their limit, graders, reward, algorithm,
regularizer, estimator, dtypes and engine. What is cut is the model's shape, lengths, batch, steps and the number of
actors; no GPU is asked for. :func:`changes` names every setting that is another one in the rehearsal.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carerl.config.check.run import validate
from carerl.config.judging import judges
from carerl.config.reading.compose import Tree, leaves
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import effective_shape, layer_matrices
from carerl.errors import ConfigError

FIELD = "rehearse"
PREFIX = "rehearse_"  # of the recipe's name in what a rehearsal writes, so that nothing takes it for a run of it
STEPS = 3
STOP_AFTER = 1  # the step after which a rehearsal is stopped, to be resumed
EVERY = 2  # steps between evaluations, checkpoints, rollout tables, reports and measurements, where the recipe has any
NEW_TOKENS = 16
PROMPTS = 4  # a step
GROUP = 8
COMPLETIONS = 2  # of a step
PAIRS = 8  # of an optimizer step
QUESTIONS = 4  # a suite
SAMPLES = 4  # a question
SCORED = 2
VALIDATION_QUESTIONS = 8
MICRO_BATCH = 16  # rows
HEAD_TOKENS = 32  # whose logits over the whole vocabulary exist at one time: 19 MB a table at 152 thousand
BATCH_ROWS = 16
CACHE_GIB = 0.125  # keys and values of 131 thousand tokens of two layers in float32, and of more in bfloat16
BASE_STEPS = 20  # of a base model that is trained first
RATE = 3e-4  # an update moves weights of .1 to their neighbours in bfloat16, .0005 away, and no policy to one token
CPUS = 0.2  # of an actor: four ask for less than one CPU together, so that they start beside anything
LAYERS, HEADS, HEAD_DIM, MLP = 2, 2, 32, 128


@dataclass(frozen=True)
class Change:
    """A setting that is another one in the rehearsal."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"


def _shown(value: Any) -> str:
    return "(empty)" if value in ("", None) else str(value)


def leave_real_run(asked: Tree) -> None:
    """Takes ``run_dir`` and ``resume=auto``, which name the real run, out of a rehearsal's command line, so that one
    command serves both. The rehearsal then lies beside that run, on the same storage. Raises ConfigError if a run is to
    be resumed."""
    if asked.pop("resume", "") not in ("", None, "auto"):
        raise ConfigError(
            FIELD, True, "a rehearsal resumes no other run: it stops and resumes one of its own", "leave resume= out"
        )
    real = asked.pop("run_dir", "")
    if isinstance(real, str) and real and "runs_dir" not in asked:
        asked["runs_dir"] = str(Path(real).expanduser().absolute().parent)


def check_rehearsal(config: RunConfig) -> None:
    """Refuses what cannot be rehearsed. Raises ConfigError."""
    if config.resume:
        reason = "it is part of a rehearsal, whose outcomes are coin flips"
        raise ConfigError("resume", config.resume, reason, "rehearse the recipe again: recipe=NAME rehearse=true")
    if config.dry_run:
        reason = "dry_run=true starts nothing, and a rehearsal starts everything"
        raise ConfigError(FIELD, True, reason, "leave one of them out")
    if not config.trains_on_questions:
        reason = f"a recipe of kind {config.kind} has no engine, no rollouts and no graders to rehearse"
        raise ConfigError(FIELD, True, reason, "rehearse a recipe that starts from its model, e.g. care_grpo_tiny")


def rehearsed(config: RunConfig, cpu_vllm: bool = True) -> RunConfig:
    """Returns the settings of the rehearsal of a validated run; ``config`` is not changed. ``cpu_vllm``: whether vLLM
    runs on this machine's CPU; if not, transformers is the engine. Raises ConfigError."""
    check_rehearsal(config)
    c = copy.deepcopy(config)
    c.recipe = PREFIX + config.recipe
    _schedule(c)
    _lengths(c, config)
    _batch(c)
    _actors(c)
    if not cpu_vllm:
        c.rollout.engine = "hf"
    c.model.shape = shrunk(effective_shape(config)[0])
    if judges(c):
        _judge(c)
    _adapters(c)
    if c.model.base_recipe:
        c.model.base_overrides = [*c.model.base_overrides, f"steps={BASE_STEPS}"]
    if 0 < c.learner.optimizer.lr < RATE:  # a rate of 0 trains nothing, and shall be found out
        c.learner.optimizer.lr = RATE
    if c.tracking.wandb == "online":
        c.tracking.wandb = "offline"
    validate(c)
    return c


def shrunk(shape: ShapeConfig) -> ShapeConfig:
    """Shrinks a shape to two layers of two heads. Architecture, vocabulary and context stay; heads that share keys and
    values still do, and a head that is tied to the embedding stays tied."""
    heads = min(shape.num_heads, HEADS)
    head_dim = min(shape.head_dim, HEAD_DIM)
    return replace(
        shape,
        hidden_size=heads * head_dim,
        intermediate_size=min(shape.intermediate_size, MLP),
        num_layers=min(shape.num_layers, LAYERS),
        num_heads=heads,
        num_kv_heads=heads if shape.num_kv_heads == shape.num_heads else 1,
        head_dim=head_dim,
    )


def changes(before: RunConfig, after: RunConfig) -> list[Change]:
    """Lists every setting whose value differs, in the order of the settings."""
    old, new = dict(leaves(plain(before))), dict(leaves(plain(after)))
    return [Change(key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]


def _schedule(c: RunConfig) -> None:
    """Cuts the run to a few steps, in which everything that happens now and then happens once."""
    c.steps = STEPS
    c.learner.schedule.warmup_steps = min(c.learner.schedule.warmup_steps, 1)
    c.evaluation.every = min(c.evaluation.every, EVERY)
    c.checkpoint.every = min(c.checkpoint.every, EVERY)
    c.tracking.rollouts_every = min(c.tracking.rollouts_every, EVERY)
    c.tracking.part_norms_every = min(c.tracking.part_norms_every, EVERY)
    c.reference.report_every = min(c.reference.report_every, EVERY)
    c.sync.probe_every = min(c.sync.probe_every, 1)
    e = c.evaluation
    if c.taught:  # its engines get weights for evaluations alone, and would show nothing of the training
        e.at_start = e.at_end = True
    e.samples, e.scored_samples = min(e.samples, SAMPLES), min(e.scored_samples, SCORED)
    e.questions, e.questions_between = (min(n or QUESTIONS, QUESTIONS) for n in (e.questions, e.questions_between))
    c.sync.probe_prompts = min(c.sync.probe_prompts, PROMPTS)


def _lengths(c: RunConfig, real: RunConfig) -> None:
    """Shortens responses. Prompts keep the room that the real run gives them, so that the same ones are dropped or not
    asked. Lengths in the settings of algorithm and reward shrink with the responses."""
    r = c.rollout
    r.max_new_tokens = min(r.max_new_tokens, NEW_TOKENS)
    r.max_model_len -= real.rollout.max_new_tokens - r.max_new_tokens
    if c.task.validation_questions:
        fewer: dict[str, Any] = {"validation_questions": min(c.task.validation_questions, VALIDATION_QUESTIONS)}
        c.task = replace(c.task, **fewer)
    share = r.max_new_tokens / real.rollout.max_new_tokens
    if share < 1 and c.algorithm is not None:
        c.algorithm.shorten(r.max_new_tokens, share)
    if share < 1 and c.reward is not None:
        c.reward.shorten(share)


def _batch(c: RunConfig) -> None:
    """Cuts a step to few prompts, in the recipe's minibatches of whole groups."""
    minibatches = 1 if c.algorithm is None else c.algorithm.minibatches
    c.prompts_per_step = min(c.prompts_per_step, minibatches * -(-PROMPTS // minibatches))
    if c.algorithm is not None:
        c.algorithm.group_size = min(c.algorithm.group_size, GROUP)
    if c.prefers:
        p = c.preference
        p.samples = min(p.samples, GROUP)
        if p.label == "monte_carlo":  # no other label reads it
            p.completions = min(p.completions, COMPLETIONS)
        p.pairs_per_update = min(p.pairs_per_update, PAIRS)
    if c.anchor.on:
        c.anchor.per_step = min(c.anchor.per_step, max(minibatches, PROMPTS))
        c.anchor.max_new_tokens = min(c.anchor.max_new_tokens, NEW_TOKENS)
    if c.distillation.learns and not c.taught:  # with it, prompts_per_step says how many
        c.distillation.per_step = min(c.distillation.per_step, max(minibatches, PROMPTS))
    c.learner.micro_batch_rows = min(c.learner.micro_batch_rows, MICRO_BATCH)
    c.reference.micro_batch_rows = min(c.reference.micro_batch_rows, MICRO_BATCH)
    c.learner.head_chunk_tokens = min(c.learner.head_chunk_tokens, HEAD_TOKENS)
    c.rollout.max_batch_rows = min(c.rollout.max_batch_rows, BATCH_ROWS)


def _judge(c: RunConfig) -> None:
    """Has the rehearsal's own small model stand in for the second one: one actor on the CPU, with short reviews."""
    judge, r = c.judge, c.rollout
    judge.shape, judge.dtype = c.model.shape, c.model.dtype
    judge.engine = r.engine
    judge.actors, judge.tensor_parallel, judge.enforce_eager, judge.gpus_per_actor = 1, 1, True, 0.0
    judge.cpus_per_actor = min(judge.cpus_per_actor, CPUS)
    judge.kv_cache_gib, judge.max_batch_rows = min(judge.kv_cache_gib, CACHE_GIB), min(judge.max_batch_rows, BATCH_ROWS)
    judge.max_new_tokens = min(judge.max_new_tokens, r.max_new_tokens)
    judge.max_model_len = min(judge.max_model_len, c.model.shape.context_length)


def _adapters(c: RunConfig) -> None:
    """Lowers the rank of adapters to what the small matrices have room for, and alpha with it."""
    lora, matrices = c.learner.lora, layer_matrices(c.model.shape)
    rank = min([lora.rank, *(min(matrices[name]) for name in lora.targets if name in matrices)])
    if rank < lora.rank:
        lora.rank, lora.alpha = rank, lora.alpha * rank / lora.rank


def _actors(c: RunConfig) -> None:
    """Leaves one actor of each role, on the CPU, with a small share of it. Engine and rank still share a bundle, and
    take turns, where the recipe has them colocated."""
    c.rollout.actors = c.reference.actors = c.grading.actors = c.grading.processes = c.learner.ranks = 1
    c.learner.shard_ranks = 0
    c.rollout.tensor_parallel, c.rollout.enforce_eager = 1, True
    c.rollout.kv_cache_gib = min(c.rollout.kv_cache_gib, CACHE_GIB)
    c.rollout.gpus_per_actor = c.reference.gpus_per_actor = c.learner.gpus_per_rank = 0.0
    c.rollout.cpus_per_actor = min(c.rollout.cpus_per_actor, CPUS)
    c.reference.cpus_per_actor = min(c.reference.cpus_per_actor, CPUS)
    c.learner.cpus_per_rank = min(c.learner.cpus_per_rank, CPUS)
    c.grading.cpus_per_actor = min(c.grading.cpus_per_actor, CPUS / 2)
    c.learner.cpu_offload = c.learner.activation_offload = c.learner.optimizer_offload = False  # from no GPU
    if c.sync.transfer in ("nccl", "ipc"):
        c.sync.transfer = "auto"
    c.cluster.gpus_per_node, c.cluster.gpu_memory_gib = 0, 0.0
