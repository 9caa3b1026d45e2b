"""Checks that need something at hand: the model's directory, the built task, the running cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carerl.config.check.anchors import anchor_faults
from carerl.config.check.distillation import distillation_faults
from carerl.config.check.model import vocabulary
from carerl.config.lengths import new_tokens, suite_lengths
from carerl.config.roles import ActorGroup, actor_groups
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape, read_model_json, shape_from_directory
from carerl.config.stored_weights import check_kind, check_pointers, first_words, no_model
from carerl.config.transfer import allocator_errors
from carerl.errors import ConfigError, raise_all
from carerl.grading.pool import GraderPool
from carerl.tasks.base import VALIDATION, ChecksSteps, SplitsSteps, SupervisedTask, Task, TaughtTask
from carerl.tasks.text import TextTask

if TYPE_CHECKING:
    from carerl.types import Example

# files that a tokenizer is made of
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "*.tiktoken",
    "spiece.model",
    "tekken.json",
)
LOOKED_AT = 20_000  # training prompts that are looked at, at most: about two seconds of tokenising
AT_A_TIME = 256


def check_model_dir(path: str, config: RunConfig) -> Any:
    """Refuses a model directory whose parts do not go together. Returns its tokenizer. No weight is looked at.

    Checked: it holds a language model with plain weights (:mod:`carerl.config.stored_weights`); ``config.json`` is
    readable and states a shape; a tokenizer loads; its ids fit the model's
    vocabulary; its end-of-sequence token is one that the model and its generation settings name; a text
    made of its own tokens encodes to something and comes back (a directory of model type qwen2 loads with
    a tokenizer class that ignores a custom vocabulary and encodes every text to nothing).

    Raises ConfigError."""
    if not Path(path).expanduser().is_dir():
        raise ConfigError("model.path", path, "there is no such model directory", "give a Hugging Face model directory")
    check_kind(path)
    shape = shape_from_directory(path)
    check_config(path, config.model.trust_remote_code)
    tokenizer = local_tokenizer(path, config.model.trust_remote_code)
    errors = []
    if len(tokenizer) > shape.vocab_size:
        errors.append(
            ConfigError(
                "model.path",
                path,
                f"tokenizer and model disagree: the tokenizer has {len(tokenizer)} tokens, the model's "
                f"vocabulary {shape.vocab_size}",
                "put the tokenizer that the model was trained with into its directory",
            )
        )
    errors += _check_stops(path, tokenizer, shape.vocab_size)
    errors += _check_round_trip(path, tokenizer)
    raise_all(errors)
    return tokenizer


def local_tokenizer(path: str, trust_remote_code: bool) -> Any:
    """Loads the tokenizer of a directory, or of a hub's model that is on this machine. Raises ConfigError."""
    from transformers import AutoTokenizer  # slow to import, and only needed here

    folder = Path(path).expanduser()
    if folder.is_dir() and not trust_remote_code and not any(file for name in TOKENIZERS for file in folder.glob(name)):
        reason = "it has no tokenizer: none of " + ", ".join(TOKENIZERS)
        raise ConfigError("model.path", path, reason, "save the tokenizer beside the model")
    check_pointers(path, (*TOKENIZERS, "tokenizer_config.json"))
    try:
        return AutoTokenizer.from_pretrained(
            str(Path(path).expanduser()), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # transformers raises many kinds
        raise ConfigError(
            "model.path",
            path,
            f"no tokenizer can be loaded from it: {first_words(error)}",
            "save the tokenizer beside the model",
        ) from None


def check_config(path: str, trust_remote_code: bool) -> None:
    """Refuses a ``config.json`` that transformers does not take. Raises ConfigError."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(str(Path(path).expanduser()), trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds
        raise no_model(path, error) from None


def _check_stops(path: str, tokenizer: Any, vocabulary: int) -> Iterable[ConfigError]:
    eos = tokenizer.eos_token_id
    for name, required in (("config.json", True), ("generation_config.json", False)):
        stated = read_model_json(path, name, required).get("eos_token_id")
        ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
        if wrong := [token for token in ids if not (type(token) is int and 0 <= token < vocabulary)]:
            yield ConfigError(
                "model.path",
                path,
                f"eos_token_id in {name} is {json.dumps(stated)}, and {json.dumps(wrong[0])} is no token of the model: "
                f"they are whole numbers below {vocabulary}",
                f"correct eos_token_id in {name}",
            )
        elif ids and eos is not None and eos not in ids:
            yield ConfigError(
                "model.path",
                path,
                f"tokenizer and model disagree: the tokenizer ends with token {eos}, {name} says {stated}",
                f"correct eos_token_id in {name}, or use the model's own tokenizer",
            )
    if eos is None:
        yield ConfigError(
            "model.path",
            path,
            "the tokenizer has no end-of-sequence token",
            "set eos_token in the tokenizer's files",
        )


def _check_round_trip(path: str, tokenizer: Any) -> Iterable[ConfigError]:
    special = set(tokenizer.all_special_ids)
    # the ids behind the specials of small vocabularies, the frequent ones of large ones
    ids = [i for i in range(min(len(tokenizer), 600)) if i not in special]
    # a token that is part of a character's bytes is no text by itself
    ids = [i for i in ids if "\ufffd" not in tokenizer.decode([i])][-20:]
    text = tokenizer.decode(ids)
    back = tokenizer.encode(text, add_special_tokens=False)
    if text.strip() and (not back or _squeezed(tokenizer.decode(back)) != _squeezed(text)):
        yield ConfigError(
            "model.path",
            path,
            f"the tokenizer does not give a text back: {text!r} becomes {back}"
            + (" (transformers ignores a custom tokenizer in a qwen2 directory)" if not back else ""),
            "save the model as qwen3 or llama, or put the right tokenizer files into the directory",
        )


def _squeezed(text: str) -> str:
    return "".join(text.split())


def check_task(task: Task, config: RunConfig) -> None:
    """Refuses a task whose vocabulary the model does not have, whose prompts do not fit the context with the answers
    they need, or that has no corpus, or no responses to learn, where a supervised run asks for one.

    Of text, prompts that do not fit are left out and counted, and only a set of which none is left is refused. Of
    another task every evaluation prompt must fit, and every training prompt of :func:`training_examples`. Raises
    ConfigError."""
    errors = [] if task.needs_tokenizer else list(vocabulary(config, task.vocab_size))
    if config.checkpoint.best and VALIDATION not in {suite.name for suite in task.suites()}:
        reason = f"task {config.task.name} has no suite {VALIDATION} to choose by"
        errors.append(ConfigError("checkpoint.best", config.checkpoint.best, reason, "leave it out"))
    if config.does.trains_on_corpus and not isinstance(task, SupervisedTask):
        reason = "it has no corpus for supervised training"
        errors.append(ConfigError("task.name", config.task.name, reason, "write task.name=tiny, or kind=rl"))
    elif config.prefers and (fault := _preferences(task, config)) is not None:
        errors.append(fault)
    elif config.taught and not config.distillation.on and not isinstance(task, TaughtTask):
        reason = "its questions have no responses to learn"
        errors.append(ConfigError("task.name", config.task.name, reason, "choose another task, or write kind=rl"))
    elif isinstance(task, TextTask):
        # without a prompt that fits there is nothing that could be looked at
        errors += list(_some_prompts_fit(task, config)) or [
            *_decisions(task, config),
            *_swaps(task, config),
            *_taught(task, config),
        ]
    else:
        errors += _all_prompts_fit(task, config)
    raise_all([*errors, *(() if errors else (*anchor_faults(task, config), *distillation_faults(task, config)))])


def _preferences(task: Task, config: RunConfig) -> ConfigError | None:
    """Returns why the task's responses have no steps, or nobody who knows which are right; None if they have."""
    p, name = config.preference, config.task.name
    if not p.judged:
        return None
    if p.label == "exact" and not isinstance(task, ChecksSteps):
        reason = f"task {name} does not know which steps of a response are right"
        remedy = "write preference.label=monte_carlo, or judge with judge.path=, or task.name=tiny"
        return ConfigError("preference.label", "exact", reason, remedy)
    if not isinstance(task, SplitsSteps | TextTask):
        reason = f"task {name} has no steps of its own, and no text in which they could be found"
        return ConfigError("preference.unit", "step", reason, "write preference.unit=response")
    return None


def _decisions(task: TextTask, config: RunConfig) -> Iterable[ConfigError]:
    """Refuses to train decisions where no training question has any."""
    d = config.decision
    if d.needed and config.trains_on_questions and not task.has_options():
        key = "name" if d.trains else "reward"
        yield ConfigError(
            f"decision.{key}",
            getattr(d, key),
            f"none of the training questions of task {config.task.name} has options, so no response holds a decision",
            "train on questions with options (task.name=commonsenseqa), or leave decision out",
        )


def _swaps(task: TextTask, config: RunConfig) -> Iterable[ConfigError]:
    """Refuses to swap traces where no question of an evaluation has options."""
    if not config.evaluation.trace_swap:
        return
    suites = task.suites()
    if not any(example.meta["gold"].choices for suite in suites for example in suite.examples):
        yield ConfigError(
            "evaluation.trace_swap",
            True,
            f"no question of {', '.join(suite.name for suite in suites) or 'an evaluation'} has options, so no trace "
            "decides between any",
            "evaluate a benchmark with options, such as commonsenseqa, or leave evaluation.trace_swap out",
        )


def _taught(task: TextTask, config: RunConfig) -> Iterable[ConfigError]:
    """Refuses supervised finetuning on questions without responses to learn."""
    if not config.taught or config.distillation.on:  # then labelled traces are all that is learned
        return
    settings = config.grading
    with GraderPool(settings.processes, settings.seconds, settings.memory_mib) as pool:
        found = task.teach(config.rollout.max_new_tokens, pool, cut=config.rehearse)  # its responses are short
    if found.without:
        reason = f"{len(found.without):,} of {found.questions:,} training questions have no solution to learn, "
        remedy = "write task.teach=decision to learn their answers alone, or give 'solution' in every row"
        if found.teach == "decision":
            remedy = "give 'solution', an expression, in every row"
        yield ConfigError("task.teach", found.teach, f"{reason}the first is {found.without[0]}", remedy)
    elif not found.targets:
        yield ConfigError(
            "task.teach",
            found.teach,
            f"nothing is left to learn: of {found.questions:,} responses {len(found.too_long):,} have more than "
            f"{found.room:,} tokens, and {len(found.wrong):,} are not graded as correct",
            "raise rollout.max_new_tokens, or mend the rows: a solution ends with the answer that the row gives",
        )


def _some_prompts_fit(task: TextTask, config: RunConfig) -> Iterable[ConfigError]:
    limit, new = config.rollout.max_model_len, config.rollout.max_new_tokens
    if config.trains_on_questions and (found := task.training_lengths()).none_fits:
        needed = found.shortest[1] + new
        remedy = f"write task.max_prompt_tokens={found.shortest[1]} or more"
        remedy += f", with rollout.max_model_len={needed} or fewer new tokens" if needed > limit else ""
        if found.shortest[1] >= (context := effective_shape(config)[0].context_length):
            remedy = f"shorten the questions, or give another model: this one's context is {context:,} tokens"
        yield ConfigError(
            "task.max_prompt_tokens",
            found.room,
            f"nothing is left to train on: of {found.questions:,} prompts the shortest, {found.shortest[0]}, has "
            f"{found.shortest[1]:,} tokens, and the longest, {found.longest[0]}, {found.longest[1]:,}",
            remedy,
        )
    for suite in task.suites() if config.evaluates else ():
        found = suite_lengths(config, suite)
        if found.none_fits:
            name, tokens = found.shortest
            room = new_tokens(config, suite)
            yield ConfigError(
                "rollout.max_model_len",
                limit,
                f"no question of evaluation {suite.name} fits: the shortest prompt, {name}, has {tokens:,} tokens; "
                f"{room} new make {tokens + room}",
                f"write rollout.max_model_len={tokens + room} or more, lower rollout.max_new_tokens, or leave "
                f"{suite.name} out",
            )


def _all_prompts_fit(task: Task, config: RunConfig) -> Iterable[ConfigError]:
    limit, new = config.rollout.max_model_len, config.rollout.max_new_tokens
    sets: list[tuple[str, Iterable[Example], int]] = []
    if config.trains_on_questions:
        sets.append(("training", training_examples(task, config.prompts_per_step), new))
    for suite in task.suites():
        sets.append((f"evaluation {suite.name}", suite.examples, new_tokens(config, suite)))
    for name, examples, room in sets:
        tokens, example_id = max(
            ((len(e.prompt_ids), e.id) for e in examples), default=(0, ""), key=lambda pair: pair[0]
        )
        if tokens + room > limit:
            yield ConfigError(
                "rollout.max_model_len",
                limit,
                f"the longest prompt of {name}, {example_id}, has {tokens} tokens; {room} new make {tokens + room}",
                f"write rollout.max_model_len={tokens + room} or more, lower rollout.max_new_tokens, or leave "
                "longer prompts out of the data",
            )


def training_examples(task: Task, prompts_per_step: int) -> Iterator[Example]:
    """Yields the first training examples, and more until :data:`AT_A_TIME` in a row bring no new prompt.

    A task does not say how many prompts it has. A finite set comes one epoch after the other, so by then every prompt
    has been seen. Of a set of more than :data:`LOOKED_AT` prompts, or one without an end, this is a sample."""
    yield from task.train_examples(0, prompts_per_step)
    seen: set[int] = set()
    for start in range(0, LOOKED_AT - AT_A_TIME + 1, AT_A_TIME):
        examples = task.train_examples(start, AT_A_TIME)
        known = len(seen)
        seen.update(hash(example.prompt_ids) for example in examples)
        if len(seen) == known:
            return
        yield from examples


def check_cluster(config: RunConfig, cpus: float, gpus: float, grows: bool = False) -> None:
    """Refuses a plan whose actors ask for more than the cluster has in total (``cpus``, ``gpus``: of the
    whole cluster). Ray would leave the rest pending for ever. Where the cluster ``grows`` and the settings say how long
    its nodes may take, that is waited for instead. One that does not grow was started here, so that its actors have the
    environment of this process, which is checked too. Raises ConfigError."""
    if grows and config.cluster.wait_seconds:
        return
    groups = actor_groups(config)
    errors = [] if grows else list(allocator_errors(config, os.environ))
    for kind, available, share in (
        ("CPUs", cpus, [(g, g.count * g.cpus_each) for g in groups]),
        ("GPUs", gpus, [(g, g.count * g.gpus_each) for g in groups]),
    ):
        wanted = round(sum(s for _, s in share), 6)
        if wanted > available + 1e-6:
            listing = ", ".join(_share(g, s, kind) for g, s in share if s)
            errors.append(
                ConfigError(
                    "cluster",
                    f"{available:g} {kind}",
                    f"the plan needs {wanted:g} {kind}: {listing}",
                    f"start a cluster with {wanted:g} {kind}, or lower these shares"
                    + ("; where an autoscaler adds nodes: cluster.wait_seconds=1800" if grows else ""),
                )
            )
    raise_all(errors)


def _share(group: ActorGroup, total: float, kind: str) -> str:
    each, setting = group.cpus_each, group.setting
    if kind == "GPUs":
        each, setting = group.gpus_each, group.gpus_setting
    return f"{group.role} {group.count} x {each:g} = {total:g} ({setting})"
