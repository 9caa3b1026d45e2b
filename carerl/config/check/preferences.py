"""Refuses settings of preferences that go with no other part of a run, and a second model that is not there."""

from __future__ import annotations

import os

from carerl.config.judging import judge_run, judges
from carerl.config.named_models import PACKAGED
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import effective_shape, looks_local, shape_from_directory
from carerl.config.stored_weights import first_words
from carerl.errors import ConfigError, raise_all
from carerl.preferences.config import PreferenceConfig
from carerl.settings import Errors, changed

OF_STEPS = (
    "label",
    "delimiter",
    "completions",
    "right_from",
    "wrong_to",
    "second",
)  # settings without use for responses


def preference_pairings(c: RunConfig) -> Errors:
    """Yields an error for preferences that the run's kind does not learn from, and for labels that nobody gives."""
    p = c.preference
    if not c.prefers:
        reason = f"a run of kind {c.kind} learns from no pairs"
        for name, value in changed(p):
            yield ConfigError(f"preference.{name}", value, reason, "leave it out, or write kind=caspo")
        return
    for name in OF_STEPS if not p.judged else ():
        if (value := getattr(p, name)) != getattr(PreferenceConfig, name):
            reason = "whole responses are compared (preference.unit=response), and their graders say which are right"
            yield ConfigError(f"preference.{name}", value, reason, "leave it out, or write preference.unit=step")
    if c.learner.schedule.warmup_steps >= c.steps:
        reason = f"the warm-up is counted in rounds, and the run has {c.steps}: the full rate would never be reached"
        remedy = "write learner.schedule.warmup_steps=0"
        yield ConfigError("learner.schedule.warmup_steps", c.learner.schedule.warmup_steps, reason, remedy)
    if judges(c):
        yield from _judge(c)
    elif c.judge.path:
        reason = "no second model judges"
        yield ConfigError("judge.path", c.judge.path, reason, "write judge.path=, or preference.label=judge")


def _judge(c: RunConfig) -> Errors:
    """Yields an error for a second model that is missing, or that cannot read the responses."""
    path = c.judge.path
    if not c.task.writes_text:
        reason = f"task {c.task.name} has no words that a second model could read"
        yield ConfigError("preference.label", "judge", reason, "write preference.label=exact or monte_carlo")
    elif not path:
        reason = "preference.label=judge asks a second model, and there is none"
        yield ConfigError("judge.path", "", reason, "give judge.path=, a directory or hub id with a chat template")
    elif not (c.dry_run or c.rehearse) and path not in PACKAGED and looks_local(path) and not os.path.isdir(path):
        remedy = f"give a Hugging Face model directory that exists here, a hub id owner/name, or {', '.join(PACKAGED)}"
        yield ConfigError("judge.path", path, "there is no such model directory", remedy)
    elif (shape := effective_shape(judge_run(c))[0]) != ShapeConfig():  # as it is by default, it says nothing
        yield from judge_context(c, shape.context_length)


def judge_context(c: RunConfig, context: int) -> Errors:
    """Yields an error if the second model's ``context``, in tokens, is shorter than its engines are to take."""
    if c.judge.max_model_len > context:
        reason, remedy = (
            f"the second model's context is {context} tokens",
            f"write judge.max_model_len={context} or less",
        )
        yield ConfigError("judge.max_model_len", c.judge.max_model_len, reason, remedy)


def check_judge(c: RunConfig, folder: str) -> None:
    """Refuses a second model without a chat template, or with too short a context. ``folder`` has its files, weights
    aside. Raises ConfigError."""
    from transformers import AutoTokenizer  # slow to import, and only needed here

    errors, path, template = [], c.judge.path, None
    try:
        template = AutoTokenizer.from_pretrained(folder, local_files_only=True).chat_template
    except Exception as error:  # transformers raises many kinds
        reason, remedy = f"no tokenizer can be loaded from it: {first_words(error)}", "save its tokenizer beside it"
        errors.append(ConfigError("judge.path", path, reason, remedy))
    if template is None and not errors:
        reason, remedy = "it has no chat template, so it answers no requests", "give a model that was taught to chat"
        errors.append(ConfigError("judge.path", path, reason, remedy))
    raise_all([*errors, *judge_context(c, shape_from_directory(folder).context_length)])
