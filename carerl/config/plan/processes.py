"""Says how much main memory an actor's process takes before it holds anything of a model.

Measured on the CPU as resident memory, with torch 2.13, Ray 2.60 and vLLM 0.32, in runs of
``care_grpo_tiny`` and of the 135M model ``smollm2``: the peak less the parts that :mod:`carerl.config.plan.resident`
counts. About .2 GiB of each are pages of libraries, which processes of one node share and each counts. An engine's has
the requests and caches of a run in it (.13 GiB); a grader's is smaller for a task that has a tokenizer of its own.
"""

from __future__ import annotations

from carerl.config.judging import judge_run
from carerl.config.schema import RunConfig
from carerl.tasks import TASKS

ON_GPU = 1.5  # with CUDA's libraries and context [assumed]
ON_CPU = {"learner": 0.55, "rollout": 0.85, "reference": 0.5, "grading": 0.33}
PLAIN_ENGINE = 0.6  # transformers in place of vLLM [assumed: as a learner's]
WITH_TOKENIZER = 0.59  # a grader that has imported transformers


def process_gib(config: RunConfig, role: str, on_gpu: bool) -> float:
    """Returns the size of one process of a role, GiB. ``on_gpu``: the actor has a GPU."""
    if role == "judge":
        return process_gib(judge_run(config), "rollout", on_gpu)
    if on_gpu or role not in ON_CPU:
        return ON_GPU
    if role == "rollout" and config.rollout.engine != "vllm":
        return PLAIN_ENGINE
    if role == "grading":
        return WITH_TOKENIZER if _needs_tokenizer(config) else ON_CPU[role]
    return ON_CPU[role]


def _needs_tokenizer(config: RunConfig) -> bool:
    """Returns True if the graders load a tokenizer, as far as the task's class says it."""
    return config.task is not None and getattr(TASKS[config.task.name].build, "needs_tokenizer", True) is not False
