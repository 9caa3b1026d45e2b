"""Divides ``rollout.max_model_len``: the prompt, and the answer behind it.

Training prompts that are too long are dropped by the task (``task.max_prompt_tokens``), which keeps the order of an
epoch a function of seed and epoch. An evaluation question is asked wherever it fits, and counted where it does not.
"""

from __future__ import annotations

from dataclasses import replace

from carerl.config.schema import RunConfig
from carerl.tasks.base import Suite
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.prompts import PromptLengths, prompt_lengths


def settle_prompt_room(config: RunConfig) -> None:
    """Writes into ``task.max_prompt_tokens`` what the lengths leave, where an RL run on text does not say it. From then
    on it is a setting like any other: a run that is resumed with a longer ``rollout.max_model_len`` keeps its data."""
    if config.trains_on_questions and isinstance(config.task, TextConfig) and config.task.max_prompt_tokens == 0:
        config.task.max_prompt_tokens = max(0, config.rollout.max_model_len - config.rollout.max_new_tokens)


def new_tokens(config: RunConfig, suite: Suite) -> int:
    """Returns how many tokens an answer to a suite's question may have."""
    return max(config.rollout.max_new_tokens, suite.max_new_tokens or 0)


def prompt_room(config: RunConfig, suite: Suite) -> int:
    """Returns how many tokens the answers to a suite's questions leave for a prompt."""
    return config.rollout.max_model_len - new_tokens(config, suite)


def suite_lengths(config: RunConfig, suite: Suite) -> PromptLengths:
    """Measures a suite's prompts against :func:`prompt_room`. Raises ValueError for a suite without examples."""
    return prompt_lengths(suite.examples, prompt_room(config, suite))


def asked(config: RunConfig, suite: Suite) -> Suite:
    """Returns the suite without the examples that are too long to be asked. The suite carries their number."""
    room = prompt_room(config, suite)
    fitting = tuple(example for example in suite.examples if len(example.prompt_ids) <= room)
    return replace(suite, examples=fitting, too_long=suite.too_long + len(suite.examples) - len(fitting))
