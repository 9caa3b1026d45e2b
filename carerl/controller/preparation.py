"""Prepares a run before its first actor starts: task, tokenizer, and what ends a response."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from carerl.backends import hub
from carerl.backends.models import end_ids
from carerl.backends.whole_checkpoint import check_finite, check_remote_weights, check_weights
from carerl.config.check.at_hand import check_model_dir, check_task
from carerl.config.check.preferences import check_judge
from carerl.config.check.prompts import own_tokenizer, prompt_lines, refusals
from carerl.config.judging import judges
from carerl.config.named_models import PACKAGED
from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local
from carerl.config.stored_weights import whole
from carerl.controller.rounds.scoring import cuts_responses, splitter_of
from carerl.errors import ConfigError
from carerl.tasks import TASKS, Task
from carerl.text.printable import printable


def prepare(config: RunConfig, model_dir: str) -> tuple[Task, Any]:
    """Returns the task with its tokenizer attached, and the tokenizer. Makes every check that needs no actor.
    ``model_dir`` may be empty for a task that has a tokenizer of its own. Raises ConfigError."""
    with _warnings_in_words():
        tokenizer = check_model(config, model_dir) if model_dir else None
    with refusals(config, model_dir), _warnings_in_words():
        task = TASKS[config.task.name].build(config.task, config.seed)
        if not model_dir:
            tokenizer = own_tokenizer(config, task)
        if tokenizer is None:
            raise ConfigError(
                "task.name",
                config.task.name,
                "a model made here has no tokenizer for this task",
                "write model.path=, a Hugging Face directory or hub id",
            )
        task.attach(tokenizer)
        check_task(task, config)
        if cuts_responses(config):
            splitter_of(config, task, tokenizer)
    if judges(config) and config.coin_seed is None and config.judge.path not in PACKAGED:
        check_judge(config, hub.model_files(config.judge.path, config.judge.revision))
    return task, tokenizer


@contextmanager
def _warnings_in_words() -> Iterator[None]:
    """Prints each warning raised inside as one harmless line: ids of data rows, which are anybody's text, may be in
    it."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for found in caught:
                print(printable(f"warning: {found.message}"), file=sys.stderr, flush=True)


def say_trust(config: RunConfig) -> None:
    """Says that a model's own Python files are run, wherever the setting comes from: the command line, a recipe, or the
    settings of a run that is resumed."""
    if config.model.trust_remote_code:
        name = config.model.path or config.model.base_recipe
        print(f"model.trust_remote_code is on: Python files that come with {name} are run here", flush=True)


def check_model(config: RunConfig, model_dir: str) -> Any:
    """Refuses a model whose files do not go together, or whose weights are not all there. Returns its tokenizer. For a
    hub's model whose weights are not on this machine, reads headers from the hub; if the hub does not answer, each
    actor checks what it loads. Raises ConfigError."""
    folder = hub.model_files(model_dir, config.model.revision)
    tokenizer = check_model_dir(folder, config)
    if looks_local(model_dir) or whole(folder):
        notices = check_weights(folder, config.model.trust_remote_code)
        check_finite(folder)
    else:
        notices = check_remote_weights(folder, model_dir, config.model.revision, config.model.trust_remote_code)
    for notice in notices:
        warnings.warn(notice, stacklevel=2)
    return tokenizer


def with_end_ids(config: RunConfig, task: Task, model_dir: str) -> RunConfig:
    """Returns the settings with ``rollout.end_ids``: the tokens that end a response by the task's tokenizer and chat
    template, and by the model's own files. Returns the settings of a run without an engine as they are.

    Raises ConfigError for a resumed run that would end its responses at other tokens than before."""
    if not config.starts_engines:
        return config
    files = hub.model_files(model_dir, config.model.revision) if model_dir else ""
    own = end_ids(files, config.model.trust_remote_code) if files else ()
    found, recorded = sorted({*task.stop_ids, *own}), config.rollout.end_ids
    if config.resume and recorded and found != sorted(recorded):
        raise ConfigError(
            "rollout.end_ids",
            found,
            f"by the model's files and its chat template these tokens end a response now; the run in {config.resume} "
            f"was started with {recorded}",
            "put back the model's files that were there, or start a new run without resume=",
        )
    return replace(config, rollout=replace(config.rollout, end_ids=found))


def stop_ids(config: RunConfig, task: Task) -> tuple[int, ...]:
    """Returns the tokens that end a response."""
    return tuple(sorted({*task.stop_ids, *config.rollout.end_ids}))


def first_lines(config: RunConfig, task: Task, tokenizer: Any) -> list[str]:
    """Returns lines that a person should read before a run begins: its prompts, what is done at decisions, and what
    ends a response."""
    ends = stop_ids(config, task)
    shown = ", ".join(f"{token} ({number})" for token, number in zip(_texts(tokenizer, ends), ends, strict=True))
    said = [*config.decision.lines(config), *config.anchor.lines(config), *config.distillation.lines(config)]
    return [*prompt_lines(config, task), *said, f"a response ends at {shown}"]


def _texts(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    return [str(text) for text in tokenizer.convert_ids_to_tokens(list(ids))]
