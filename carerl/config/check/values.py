"""What each setting's value may be by itself: names, ranges, finiteness."""

from __future__ import annotations

import math
from collections.abc import Iterator

from carerl.algorithms import UPDATES
from carerl.config.check.tasks import task_values
from carerl.config.plan.cards import CARDS
from carerl.config.reading.compose import leaves
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.errors import ConfigError, suggestion
from carerl.loss.mismatch import CORRECTIONS
from carerl.regularizers import PLACES
from carerl.rewards import FORMS

NAMES: dict[str, tuple[str, ...]] = {
    "kind": ("rl", "sft", "untrained", "evaluate"),
    "model.dtype": ("float32", "bfloat16"),
    "reference.compute_dtype": ("float32", "bfloat16", "float64"),
    "learner.compute_dtype": ("float32", "bfloat16", "float64"),
    "algorithm.update": UPDATES,
    "algorithm.mismatch_correction": CORRECTIONS,
    "regularizer.place": PLACES,
    "reward.form": tuple(FORMS),
    "learner.backend": ("fsdp2",),
    "learner.schedule.name": ("constant", "linear", "cosine"),
    "rollout.engine": ("vllm", "hf"),
    "cluster.gpu": ("", *CARDS),
    "tracking.wandb": ("off", "offline", "online"),
    "tracking.display": ("auto", "live", "plain", "quiet"),
}
AT_LEAST: dict[str, float] = {
    "seed": 0,
    "evaluation.seed": 0,
    "steps": 1,
    "prompts_per_step": 1,
    "rollout.actors": 1,
    "rollout.tensor_parallel": 1,
    "rollout.max_new_tokens": 1,
    "task.max_prompt_tokens": 0,
    "rollout.max_model_len": 2,
    "rollout.max_batch_rows": 1,
    "rollout.threads": 0,
    "rollout.cpus_per_actor": 0,
    "rollout.gpus_per_actor": 0,
    "reference.actors": 1,
    "reference.micro_batch_rows": 1,
    "reference.threads": 0,
    "reference.cpus_per_actor": 0,
    "reference.gpus_per_actor": 0,
    "grading.actors": 1,
    "grading.processes": 1,
    "grading.memory_mib": 64,
    "grading.cpus_per_actor": 0,
    "learner.ranks": 1,
    "learner.micro_batch_rows": 1,
    "learner.head_chunk_tokens": 1,
    "learner.threads": 0,
    "learner.cpus_per_rank": 0,
    "learner.gpus_per_rank": 0,
    "learner.optimizer.lr": 0,
    "learner.optimizer.weight_decay": 0,
    "learner.optimizer.grad_clip": 0,
    "learner.schedule.warmup_steps": 0,
    "sync.bucket_mib": 1,
    "sync.probe_every": 0,
    "sync.probe_prompts": 1,
    "sync.probe_mean_abort": 0,
    "sync.probe_q999_abort": 0,
    "sync.mismatch_mean_abort": 0,
    "sync.mismatch_q999_abort": 0,
    "evaluation.every": 0,
    "evaluation.temperature": 0,
    "evaluation.samples": 1,
    "evaluation.scored_samples": 1,
    "algorithm.entropy_bonus": 0,
    "algorithm.entropy_target": 0,
    "algorithm.mismatch_cap": 0,
    "algorithm.max_draws": 1,
    "algorithm.overlong_length": 0,
    "algorithm.overlong_buffer": 0,
    "algorithm.constant_length": 0,
    "evaluation.questions": 0,
    "evaluation.questions_between": 0,
    "checkpoint.every": 0,
    "checkpoint.keep": 1,
    "tracking.rollouts_every": 0,
    "tracking.wandb_rollout_rows": 0,
    "cluster.wait_seconds": 0,
    "cluster.answer_seconds": 1,
    "cluster.gpus_per_node": 0,
    "cluster.gpu_memory_gib": 0,
    "cluster.gpu_tflops": 0,
    "cluster.gpu_bandwidth_tbps": 0,
    "regularizer.beta": 0,
    "regularizer.target_kl": 0,
    "reference.report_every": 0,
    "algorithm.minibatches": 1,
    "algorithm.epochs": 1,
    "algorithm.clip_low": 0,
    "algorithm.clip_high": 0,
    "algorithm.std_epsilon": 0,
    "reward.brier": 0,
    "reward.form_bonus": 0,
    "reward.length_penalty": 0,
    "reward.free_tokens": 0,
    "reward.long_tokens": 0,
}
ABOVE_ZERO = (
    "algorithm.entropy_step",
    "rollout.temperature", "rollout.kv_cache_gib", "learner.optimizer.eps",
    "grading.seconds", "cluster.progress_minutes",
)  # fmt: skip
ZERO_TO_ONE = ("regularizer.alpha", "grading.max_invalid", "learner.schedule.final_fraction")


def bounds(key: str) -> str:
    """Returns in words what :func:`values` demands of a setting by itself; '' where it demands nothing."""
    if key in NAMES:
        return "one of " + ", ".join(name for name in NAMES[key] if name)
    if key in AT_LEAST:
        return f"at least {AT_LEAST[key]:g}"
    shape = getattr(ShapeConfig, key.removeprefix("model.shape."), None) if key.startswith("model.shape.") else None
    if key in ABOVE_ZERO or (isinstance(shape, int | float) and not isinstance(shape, bool)):
        return "above 0"
    if key in ZERO_TO_ONE:
        return "0 to 1"
    if key.endswith("top_p") or key == "rollout.gpu_memory_utilization":
        return "above 0, at most 1"
    return "at least 1, or -1 for off" if key.endswith("top_k") else ""


def values(config: RunConfig) -> Iterator[ConfigError]:
    """An error for every value that is illegal whatever the others are."""
    flat = dict(leaves(plain(config)))
    for key, value in flat.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                yield ConfigError(key, value, "it is not a finite number", f"write {key}=<a finite number>")
    for key, allowed in NAMES.items():
        if key in flat and flat[key] not in allowed:
            named = [name for name in allowed if name]
            reason = "it must be one of " + ", ".join(named)
            yield ConfigError(key, flat[key], reason, suggestion(str(flat[key]), named, key + "="))
    for key, low in AT_LEAST.items():
        value = flat.get(key)
        if isinstance(value, int | float) and value < low:
            yield ConfigError(key, value, f"it must be at least {low:g}", f"write {key}={low:g} or more")
    for key in ABOVE_ZERO:
        if key in flat and flat[key] <= 0:
            yield ConfigError(key, flat[key], "it must be above 0", f"write {key}=<a number above 0>")
    for key in ZERO_TO_ONE:
        value = flat.get(key)
        if isinstance(value, int | float) and not 0 <= value <= 1:
            yield ConfigError(key, value, "it must lie between 0 and 1", f"write {key}=<0 to 1>, e.g. 0.8")
    for key, value in flat.items():
        if key.endswith("top_p") and not 0 < value <= 1:
            yield ConfigError(key, value, "it must be above 0 and at most 1", f"write {key}=1 for off")
        if key.endswith("top_k") and value != -1 and value < 1:
            yield ConfigError(key, value, "it is a count of tokens, or -1 for off", f"write {key}=-1")
    if not 0 < config.rollout.gpu_memory_utilization <= 1:
        key = "rollout.gpu_memory_utilization"
        yield ConfigError(key, flat[key], "it is a fraction of the GPU's memory", f"write {key}=0.8")
    betas = config.learner.optimizer.betas
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        key = "learner.optimizer.betas"
        yield ConfigError(key, betas, "it must be two numbers, each from 0 to below 1", f"write {key}=[0.9,0.99]")
    for key, value in plain(config.model.shape).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            yield ConfigError(f"model.shape.{key}", value, "it must be above 0", f"write model.shape.{key}=...")
    yield from task_values(config.task)
