"""Values and pairings that are refused before anything starts.

Every check yields :class:`ConfigError`; :func:`validate` raises them all at once, the first one in front.
What can only be known with the model, the task or the cluster at hand is checked by
:mod:`carerl.config.check.at_hand`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from carerl.config.check.loss import algorithm_pairings, regularizer_pairings, setting
from carerl.config.check.places import run_dir_errors
from carerl.config.check.sync import sync_pairings
from carerl.config.check.tasks import task_pairings
from carerl.config.check.tracking import tracking_pairings
from carerl.config.check.values import values
from carerl.config.named_models import BYTES, PACKAGED, near_name
from carerl.config.plan.cards import card_pairings
from carerl.config.plan.memory import fit_pairings
from carerl.config.roles import actor_groups
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.selection import selection_pairings
from carerl.config.shapes import effective_shape, looks_local
from carerl.config.stored_weights import no_model_there
from carerl.config.tables import CHOICES
from carerl.errors import ConfigError, raise_all, suggestion
from carerl.rewards import REWARDS
from carerl.rewards.shaped import reads_confidence
from carerl.tasks.benchmarks.benchmark import TextConfig
from carerl.tasks.byte_tokenizer import VOCAB_SIZE as BYTE_VOCABULARY
from carerl.tasks.tiny import TinyConfig

Errors = Iterator[ConfigError]

# head sizes that vLLM's attention on the CPU is compiled for
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)


def validate(config: RunConfig) -> None:
    """Raises ConfigError (further ones in ``others``) if any value or pairing is illegal."""
    errors = list(values(config)) or list(_parts(config))
    if not errors:  # pairings assume that every part is there and every value legal by itself
        for check in PAIRINGS:
            errors += check(config)
    raise_all(errors)


def _parts(c: RunConfig) -> Errors:
    needed = {"rl": ("task", "algorithm", "regularizer", "reward"), "untrained": ()}.get(c.kind, ("task",))
    for section in CHOICES:
        chosen = getattr(c, section)
        if section in needed and chosen is None:
            names = ", ".join(CHOICES[section])
            yield ConfigError(
                section, None, f"a run of kind {c.kind} needs one", f"write {section}.name=, one of {names}"
            )
        if section not in needed and chosen is not None:
            yield ConfigError(
                section,
                chosen.name,
                f"a run of kind {c.kind} has no {section}",
                f"leave {section} out, or kind=rl",
            )


def _supervised(c: RunConfig) -> Errors:
    evaluation = c.evaluation
    asked = {"every": evaluation.every > 0, "at_start": evaluation.at_start, "at_end": evaluation.at_end}
    for name, on in asked.items():
        if c.kind in ("sft", "untrained") and on:
            yield ConfigError(
                f"evaluation.{name}",
                getattr(evaluation, name),
                f"a run of kind {c.kind} starts no engine, so it cannot be evaluated",
                f"write evaluation.{name}={0 if name == 'every' else 'false'}; an RL run evaluates its base first",
            )
    if c.kind == "untrained" and c.profile:
        yield ConfigError("profile", True, "a model that is not trained takes no steps", "leave profile out")


def _paths(c: RunConfig) -> Errors:
    yield from run_dir_errors(c)
    path = c.model.path
    if c.model.revision and (not path or path in PACKAGED or looks_local(path)):
        reason = "only a model of the hub has revisions"
        yield ConfigError("model.revision", c.model.revision, reason, "leave it out, or write model.path=owner/name")
    if near := near_name(path):
        reason = f"there is no such model directory here, and it is nearly {near}, which has a short name"
        yield ConfigError("model.path", path, reason, f"write model.path={near}, or ./{path} for a directory")
    elif path == BYTES:
        yield ConfigError("model.path", path, "a recipe makes this model", f"write model.base_recipe={BYTES} instead")
    # a plan needs no weights, so that the path of another machine is no error in it
    elif path and not c.dry_run and path not in PACKAGED and looks_local(path) and not os.path.isdir(path):
        yield ConfigError(
            "model.path",
            path,
            "it is a file, and not a directory" if os.path.isfile(path) else "there is no such model directory",
            f"give a Hugging Face model directory that exists here, a hub id owner/name, or {', '.join(PACKAGED)}",
        )
    elif path and not (c.dry_run or c.rehearse) and path not in PACKAGED and looks_local(path):
        yield from no_model_there(path)


def _model(c: RunConfig) -> Errors:
    if c.kind in ("rl", "evaluate") and not c.model.path and not c.model.base_recipe:
        purpose = "train" if c.kind == "rl" else "evaluate"
        yield ConfigError(
            "model.path", "", f"there is no model to {purpose}", "give model.path= or model.base_recipe=base_tiny"
        )
    if c.model.path and c.model.base_recipe:
        yield ConfigError(
            "model.base_recipe",
            c.model.base_recipe,
            f"the base model is given twice, model.path is {c.model.path}",
            "to train from model.path, write model.base_recipe=",
        )
    if c.kind != "rl" and c.model.base_recipe:
        yield ConfigError("model.base_recipe", c.model.base_recipe, "a base model is made from nothing", "leave it out")
    if c.kind == "untrained" and c.model.shape.vocab_size != BYTE_VOCABULARY:
        yield ConfigError(
            "model.shape.vocab_size",
            c.model.shape.vocab_size,
            f"an untrained model reads bytes, and its tokenizer has {BYTE_VOCABULARY} tokens",
            f"write model.shape.vocab_size={BYTE_VOCABULARY}",
        )
    shape, origin = effective_shape(c)
    yield from _shape(shape, origin)
    made_here = not c.model.path
    if made_here and shape.architecture == "qwen2":
        yield ConfigError(
            "model.shape.architecture",
            "qwen2",
            "for a qwen2 directory transformers loads a tokenizer class of its own, ignores the task's "
            "tokenizer and encodes every text to nothing",
            "write model.shape.architecture=qwen3",
        )
    if c.rollout.max_model_len > shape.context_length:
        yield ConfigError(
            "rollout.max_model_len",
            c.rollout.max_model_len,
            f"the model's context is {shape.context_length} tokens ({origin})",
            f"write rollout.max_model_len={shape.context_length} or less",
        )


def _shape(s: ShapeConfig, origin: str) -> Errors:
    known = ("qwen2", "qwen3", "llama")
    if s.architecture not in known:
        yield ConfigError(
            "model.shape.architecture",
            s.architecture,
            f"{origin}: the architectures known here are {', '.join(known)}",
            suggestion(s.architecture, known, "model.shape.architecture="),
        )
    if s.num_heads % s.num_kv_heads:
        yield ConfigError(
            "model.shape.num_kv_heads",
            s.num_kv_heads,
            f"{origin}: {s.num_heads} heads do not divide into {s.num_kv_heads} groups",
            "give a divisor of model.shape.num_heads",
        )
    if s.head_dim % 2:
        yield ConfigError(
            "model.shape.head_dim",
            s.head_dim,
            "rotary positions need an even head size",
            "give an even number",
        )
    if s.architecture == "qwen2" and s.num_heads * s.head_dim != s.hidden_size:
        yield ConfigError(
            "model.shape.head_dim",
            s.head_dim,
            f"{origin}: in qwen2 it is hidden_size / num_heads = {s.hidden_size / s.num_heads:g}",
            "correct one of the three",
        )
    if s.architecture == "qwen2" and not s.attention_bias:
        yield ConfigError(
            "model.shape.attention_bias",
            False,
            "qwen2 always has biases on its queries, keys and values",
            "write model.shape.attention_bias=true, or choose qwen3",
        )


def _batch(c: RunConfig) -> Errors:
    a = c.algorithm
    groups = c.prompts_per_step
    if c.kind != "rl":
        return
    group_size, minibatches = setting(a, "group_size", 1), setting(a, "minibatches", 1)
    if group_size < setting(a, "smallest_group", 2):
        yield ConfigError(
            "algorithm.group_size",
            group_size,
            f"the advantage of {a.name} compares the responses to one prompt, and one has nothing beside it",
            "write algorithm.group_size=8",
        )
        return
    if groups % minibatches:
        divisors = [str(n) for n in range(1, groups + 1) if groups % n == 0]
        yield ConfigError(
            "algorithm.minibatches",
            minibatches,
            f"{groups} prompts do not divide into {minibatches} minibatches of whole groups",
            f"choose one of {', '.join(divisors)}, or make prompts_per_step a multiple of {minibatches}",
        )
        return
    rows = groups // minibatches * group_size
    if c.learner.ranks > rows:
        yield ConfigError(
            "learner.ranks",
            c.learner.ranks,
            f"a minibatch has {rows} rows, so that some ranks would never have work",
            f"write learner.ranks={rows} or less, or make the batch larger",
        )
    if c.rollout.actors > groups:
        yield ConfigError(
            "rollout.actors",
            c.rollout.actors,
            f"a step has {groups} prompts, so that some engines would never have work",
            f"write rollout.actors={groups} or less",
        )
    if not 0 <= setting(a, "clip_low", 0.0) < 1:
        yield ConfigError(
            "algorithm.clip_low",
            a.clip_low,
            "ratios are clipped at 1 - clip_low, which must stay above 0",
            "write algorithm.clip_low=0.2",
        )


def _engine(c: RunConfig) -> Errors:
    r = c.rollout
    if not any(group.role == "rollout" for group in actor_groups(c)):
        return  # no engine is started
    for key, value, off in (("top_p", r.top_p, 1.0), ("top_k", r.top_k, -1)):
        if value != off:
            yield ConfigError(
                f"rollout.{key}",
                value,
                "training rollouts must come from the distribution that the learner computes; with its tail "
                "cut, the engine's log-probs are not the learner's",
                f"write rollout.{key}={off:g} (evaluation.{key} is free)",
            )
    if r.max_new_tokens >= r.max_model_len:
        yield ConfigError(
            "rollout.max_new_tokens",
            r.max_new_tokens,
            f"with a prompt it does not fit rollout.max_model_len={r.max_model_len}",
            "lower it, or raise rollout.max_model_len",
        )
    longest = setting(c.task, "max_prompt_tokens", 0)
    if c.kind == "rl" and longest and longest + r.max_new_tokens > r.max_model_len:
        yield ConfigError(
            "rollout.max_model_len",
            r.max_model_len,
            f"prompts of up to {longest} tokens (task.max_prompt_tokens) and {r.max_new_tokens} new ones make "
            f"{longest + r.max_new_tokens}",
            f"write rollout.max_model_len={longest + r.max_new_tokens} or more, or a lower task.max_prompt_tokens",
        )
    if c.kind == "evaluate" and longest:
        yield ConfigError(
            "task.max_prompt_tokens",
            longest,
            "an evaluation asks every question that fits rollout.max_model_len, and trains on none",
            "leave it out",
        )
    on_cpu = r.gpus_per_actor == 0
    if on_cpu and r.tensor_parallel > 1:
        yield ConfigError(
            "rollout.tensor_parallel",
            r.tensor_parallel,
            "an engine without GPUs is not split",
            "write rollout.tensor_parallel=1, or give rollout.gpus_per_actor",
        )
    if not on_cpu and r.tensor_parallel > max(1, math.floor(r.gpus_per_actor)):
        yield ConfigError(
            "rollout.tensor_parallel",
            r.tensor_parallel,
            f"an actor has {r.gpus_per_actor:g} GPUs",
            f"write rollout.gpus_per_actor={r.tensor_parallel}",
        )
    if r.engine != "vllm":
        return
    shape, origin = effective_shape(c)
    if on_cpu and shape.head_dim not in CPU_HEAD_SIZES:
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


def _evaluation(c: RunConfig) -> Errors:
    e = c.evaluation
    if e.temperature == 0 and e.samples > 1:
        yield ConfigError(
            "evaluation.samples",
            e.samples,
            "at evaluation.temperature=0 every sample is the same",
            "write evaluation.samples=1, or a temperature above 0",
        )


def _reward(c: RunConfig) -> Errors:
    r = c.reward
    if r is None:
        return
    free, long = setting(r, "free_tokens", 0), setting(r, "long_tokens", 0)
    if setting(r, "length_penalty", 0.0) > 0 and long <= free:
        yield ConfigError(
            "reward.long_tokens",
            long,
            f"the length penalty grows from reward.free_tokens={free} to it, and it is not above",
            f"write reward.long_tokens={max(free + 1, c.rollout.max_new_tokens)}",
        )
    # what only a part with a weight looks at
    for weight, example, names in (
        ("form_bonus", 0.1, ("form",)),
        ("length_penalty", 0.5, ("free_tokens", "long_tokens")),
    ):
        for name in names:
            value, default = getattr(r, name, None), getattr(type(r), name, None)
            if setting(r, weight, 1.0) == 0 and value != default:
                yield ConfigError(
                    f"reward.{name}",
                    value,
                    f"reward.{weight}=0 turns it off",
                    f"write reward.{weight}={example:g} too, or leave reward.{name} out",
                )
    key = "brier" if setting(r, "brier", 0.0) > 0 else "form_bonus"
    if REWARDS[r.name].reads_text(r) and isinstance(c.task, TinyConfig):
        yield ConfigError(
            f"reward.{key}",
            getattr(r, key),
            "the tiny world has no words for a confidence or a box, so that every response would earn the same",
            "write reward.name=correct, or choose a task of text",
        )
    elif reads_confidence(r) and isinstance(c.task, TextConfig) and not c.task.ask_confidence:
        yield ConfigError(
            "task.ask_confidence",
            False,
            f"reward.{key}={getattr(r, key):g} looks at a confidence that no prompt asks for",
            "write task.ask_confidence=true, as reward/rlcr does (a template with <confidence> in it stays as it is)",
        )


def _learner(c: RunConfig) -> Errors:
    per_node = c.cluster.gpus_per_node
    for key, gpus in (
        ("rollout.gpus_per_actor", c.rollout.gpus_per_actor),
        ("reference.gpus_per_actor", c.reference.gpus_per_actor),
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


PAIRINGS = (
    _supervised, _paths, _model, task_pairings, _batch, algorithm_pairings, regularizer_pairings, _evaluation,
    selection_pairings, _reward, _engine, sync_pairings, _learner, card_pairings, fit_pairings,
    tracking_pairings,
)  # fmt: skip
