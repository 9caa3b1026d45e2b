"""Checks anchors: that they fit the context, the optimizer steps and the task, and that no evaluation asks them."""

from __future__ import annotations

from collections.abc import Iterator

from carerl.anchors import RANDOM
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError, suggestion
from carerl.settings import Errors
from carerl.tasks import Task
from carerl.tasks.base import AnchorTask, prompts_at
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tasks.text import TextTask


def anchor_pairings(c: RunConfig) -> Errors:
    """Yields an error for responses that cannot fit the context, and for fewer anchors than optimizer steps."""
    a, r = c.anchor, c.rollout
    if not a.on or c.algorithm is None:
        return
    if isinstance(c.task, TextConfig) and a.source not in ("", RANDOM):
        yield from _data_set(a.source)
    longest = c.task.max_prompt_tokens
    if max(longest, 1) + a.max_new_tokens > r.max_model_len:
        prompts = f"prompts of up to {longest} tokens and " if longest else ""
        yield ConfigError(
            "anchor.max_new_tokens",
            a.max_new_tokens,
            f"{prompts}responses of {a.max_new_tokens} do not fit rollout.max_model_len={r.max_model_len}",
            "write fewer, or a larger rollout.max_model_len",
        )
    if a.per_step < c.algorithm.minibatches:
        yield ConfigError(
            "anchor.per_step",
            a.per_step,
            f"a step has {c.algorithm.minibatches} optimizer steps, and some would have no anchor",
            f"write anchor.per_step={c.algorithm.minibatches} or more",
        )


def _data_set(source: str) -> Errors:
    """Refuses a data set that there is none of, or that must not be trained on."""
    try:
        found = find_benchmark(source)
        reason = "" if found.trainable else f"{source} cannot be trained on: {found.refusal}"
    except ValueError as error:
        reason = str(error)
    if reason:
        yield ConfigError("anchor.source", source, reason, "choose another source, or write anchor.name=none")


def anchor_faults(task: Task, config: RunConfig) -> Iterator[ConfigError]:
    """Yields an error for a source that the task does not have or cannot use, for prompts that an evaluation asks, and
    for prompts that leave no room for their responses."""
    a = config.anchor
    if not a.on:
        return
    if not isinstance(task, AnchorTask):
        reason = f"task {config.task.name} has no prompts for anchors"
        yield ConfigError("anchor.name", a.name, reason, "write anchor.name=none, or choose another task")
        return
    known = task.anchor_sources()
    if a.source not in known and not isinstance(task, TextTask):
        reason = f"task {config.task.name} has no such source"
        yield ConfigError("anchor.source", a.source, reason, suggestion(a.source, known, "anchor.source="))
        return
    try:
        prompts = prompts_at(task, a, 0, config.steps * a.per_step)
    except ValueError as error:
        yield ConfigError("anchor.source", a.source, str(error), "choose another source, or write anchor.name=none")
        return
    asked = {example.prompt_ids: suite.name for suite in task.suites() for example in suite.examples}
    if found := next((asked[prompt] for prompt in prompts if prompt in asked), None):
        reason = f"it has prompts that the evaluation {found} asks: what is held there would be no evidence"
        yield ConfigError("anchor.source", a.source, reason, "choose another source")
    longest = max(map(len, prompts))
    if longest + a.max_new_tokens > config.rollout.max_model_len:
        yield ConfigError(
            "anchor.max_new_tokens",
            a.max_new_tokens,
            f"a prompt of {longest} tokens leaves {config.rollout.max_model_len - longest} of "
            f"rollout.max_model_len={config.rollout.max_model_len}",
            "write fewer, a larger rollout.max_model_len, or a lower task.max_prompt_tokens",
        )
