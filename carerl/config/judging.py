"""The second model's engines, as the run of their own that they are to actors and plans."""

from __future__ import annotations

from dataclasses import replace

from carerl.config.schema import LearnerConfig, ModelConfig, RolloutConfig, RunConfig

SHARED = ("engine", "actors", "tensor_parallel", "max_new_tokens", "max_model_len", "max_batch_rows", "kv_cache_gib",
          "gpu_memory_utilization", "enforce_eager", "threads", "cpus_per_actor", "gpus_per_actor")  # fmt: skip

BLOCK = 2  # times what the engines decode at once: rows of a block of a round's questions


def judges(config: RunConfig) -> bool:
    """Returns True if a second model judges the steps of a run."""
    return "judge" in config.does.roles and config.preference.judged and config.preference.label == "judge"


def judge_run(config: RunConfig) -> RunConfig:
    """Returns the settings of a run that does nothing but generate with the second model: those of its engines in the
    place of the policy's. A temperature of 0 goes along with each request and is not among them."""
    judge = config.judge
    model = ModelConfig(path=judge.path, revision=judge.revision, shape=judge.shape, dtype=judge.dtype)
    rollout = RolloutConfig(**{name: getattr(judge, name) for name in SHARED})
    # nothing is learned, so it has no learner to share a GPU or a way of weights with
    return replace(config, kind="evaluate", model=model, rollout=rollout, learner=LearnerConfig())


def questions_at_once(config: RunConfig) -> int:
    """Returns how many questions are judged before their verdicts are on disk: enough to fill the engines that judge.
    Of each response one place is completed at a time."""
    p, judge = config.preference, config.judge
    if judges(config):
        return max(1, BLOCK * judge.actors * judge.max_batch_rows // p.samples)
    completions = p.completions if p.judged and p.label == "monte_carlo" else 1
    return max(1, BLOCK * config.rollout.actors * config.rollout.max_batch_rows // (p.samples * completions))
