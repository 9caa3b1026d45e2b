"""Checks how a run's work is cut up: batches over actors, prompts and answers in the context, engines and GPUs."""

from __future__ import annotations

from carerl.config.roles import reference_in_learner
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.errors import ConfigError
from carerl.settings import Errors

# head sizes that vLLM's attention on the CPU is compiled for
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)


def batch_pairings(c: RunConfig) -> Errors:
    """Yields an error for more actors than a step has work for."""
    a, groups = c.algorithm, c.prompts_per_step
    if a is not None:
        if groups % a.minibatches or a.group_size < a.smallest_group:
            return  # its own error says what is wrong with it
        rows = a.rows_per_minibatch(groups)
    elif c.taught:
        rows = groups
    elif c.prefers:
        rows = 2 * c.preference.pairs_per_update
    else:
        return
    if c.learner.ranks > rows:
        yield ConfigError(
            "learner.ranks",
            c.learner.ranks,
            f"a minibatch has {rows} rows, so that some ranks would never have work",
            f"write learner.ranks={rows} or less, or make the batch larger",
        )
    if a is not None and c.rollout.actors > groups:
        yield ConfigError(
            "rollout.actors",
            c.rollout.actors,
            f"a step has {groups} prompts, so that some engines would never have work",
            f"write rollout.actors={groups} or less",
        )


def reference_pairings(c: RunConfig) -> Errors:
    """Yields an error for a reference that is to lie on the ranks of a learner in a run without one."""
    if reference_in_learner(c) and not c.does.trains:
        yield ConfigError(
            "reference.place", c.reference.place, "this kind of run has no learner", "write reference.place=actors"
        )


def length_pairings(c: RunConfig) -> Errors:
    """Yields an error where the longest training prompt leaves no room for an answer, and for a limit of training
    prompts where nothing is trained."""
    r = c.rollout
    if not c.starts_engines:
        return
    longest = c.task.max_prompt_tokens
    if c.does.trains and longest and longest + r.max_new_tokens > r.max_model_len:
        yield ConfigError(
            "rollout.max_model_len",
            r.max_model_len,
            f"prompts of up to {longest} tokens (task.max_prompt_tokens) and {r.max_new_tokens} new ones make "
            f"{longest + r.max_new_tokens}",
            f"write rollout.max_model_len={longest + r.max_new_tokens} or more, or a lower task.max_prompt_tokens",
        )
    if longest and not c.does.trains:
        yield ConfigError(
            "task.max_prompt_tokens",
            longest,
            "an evaluation asks every question that fits rollout.max_model_len, and trains on none",
            "leave it out",
        )


def engine_pairings(c: RunConfig) -> Errors:
    """Yields an error for a shape of the model that vLLM cannot take."""
    r = c.rollout
    if not c.starts_engines or r.engine != "vllm":
        return
    shape, origin = effective_shape(c)
    if r.gpus_per_actor == 0 and shape.head_dim not in CPU_HEAD_SIZES:
        supported = min(CPU_HEAD_SIZES, key=lambda size: abs(size - shape.head_dim))
        yield ConfigError(
            "model.shape.head_dim",
            shape.head_dim,
            f"on the CPU vLLM supports head sizes {', '.join(map(str, CPU_HEAD_SIZES))} ({origin})",
            f"use a model with head size {supported}, or rollout.engine=hf",
        )
    if shape.architecture in ("qwen3", "llama") and shape.attention_bias:
        yield ConfigError(
            "model.shape.attention_bias",
            True,
            "transformers then gives the attention's output projection a bias too, which vLLM drops "
            f"silently: engine and learner would disagree ({origin})",
            "write model.shape.attention_bias=false, or rollout.engine=hf",
        )
    if shape.num_heads % r.tensor_parallel:
        yield ConfigError(
            "rollout.tensor_parallel",
            r.tensor_parallel,
            f"{shape.num_heads} heads do not divide into {r.tensor_parallel} parts",
            "give a divisor of the model's number of heads",
        )


def gpu_pairings(c: RunConfig) -> Errors:
    """Yields an error for shares of GPUs that no node can give."""
    per_node = c.cluster.gpus_per_node
    for key, gpus in (
        ("rollout.gpus_per_actor", c.rollout.gpus_per_actor),
        ("reference.gpus_per_actor", c.reference.gpus_per_actor),
        ("judge.gpus_per_actor", c.judge.gpus_per_actor),
        ("learner.gpus_per_rank", c.learner.gpus_per_rank),
    ):
        if per_node and gpus > per_node:
            yield ConfigError(
                key,
                gpus,
                f"one actor lives on one node, and a node has {per_node} GPUs",
                f"write {key}={per_node}",
            )
        if gpus > 1 and gpus != int(gpus):
            yield ConfigError(key, gpus, "above one, GPUs are whole", f"write {key}={int(gpus)}")
