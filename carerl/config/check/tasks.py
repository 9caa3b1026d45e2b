"""What a task's settings may be, alone and together. No file is read, so that a plan is refused by it too."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.errors import ConfigError, suggestion
from carerl.tasks import BENCHMARKS, TASKS
from carerl.tasks.base import VALIDATION
from carerl.tasks.benchmarks.benchmark import DECONTAMINATE, TextConfig
from carerl.tasks.rows.file_kinds import file_fault
from carerl.tasks.tiny import TinyConfig
from carerl.tasks.tiny import tokenizer as tiny_words
from carerl.tasks.tiny.corpus import K_VALUES
from carerl.tasks.tiny.task import MAX_QUESTIONS

Errors = Iterator[ConfigError]

PROBABILITIES = ("multiply", "careful", "textbook_careful", "step_error", "abstain")
ROWS = ("facts_rows", "unknowable_rows", "question_rows", "textbook_rows")  # 0: a family that is left out
AT_LEAST_ONE = ("entities", "heldout", "evaluation_questions", "evaluation_facts", "evaluation_unknown")
NAMES = len(tiny_words.LETTERS) ** 3
FREE_SHARE = 1e-3  # of the questions drawn for training, those that are not an evaluation's: below, a step never ends


def task_values(task: Any) -> Errors:
    """An error for every value of a shipped task that is illegal whatever the others are."""
    if isinstance(task, TinyConfig):
        yield from _tiny_values(task)
    elif isinstance(task, TextConfig):
        yield from _text_values(task)


def _tiny_values(task: TinyConfig) -> Errors:
    if task.train_k not in K_VALUES:
        counts = ", ".join(map(str, K_VALUES))
        yield ConfigError(
            "task.train_k", task.train_k, f"the corpus holds questions of {counts} operators", "write task.train_k=3"
        )
    for name in PROBABILITIES:
        value = getattr(task, name)
        if not 0 <= value <= 1:
            default = getattr(TinyConfig, name)
            yield ConfigError(
                f"task.{name}", value, "a probability lies between 0 and 1", f"write task.{name}={default:g}"
            )
    at_least_0 = (*ROWS, "validation_questions")
    for name, low in (*((name, 1) for name in AT_LEAST_ONE), *((name, 0) for name in at_least_0)):
        value = getattr(task, name)
        if value < low:
            yield ConfigError(f"task.{name}", value, f"it must be at least {low}", f"write task.{name}={low} or more")
    for name in ("evaluation_questions", "validation_questions"):
        if getattr(task, name) > MAX_QUESTIONS:
            yield ConfigError(
                f"task.{name}",
                getattr(task, name),
                f"it must be at most {MAX_QUESTIONS}: none of these questions is trained on",
                f"write task.{name}={MAX_QUESTIONS} or less",
            )


def _text_values(task: TextConfig) -> Errors:
    if task.prompt_template and "{question}" not in task.prompt_template:
        yield ConfigError(
            "task.prompt_template",
            task.prompt_template,
            "it does not hold {question}: the question would be missing",
            "write {question} where the question belongs, or nothing for the data set's own template",
        )
    if task.decontaminate not in DECONTAMINATE:
        yield ConfigError(
            "task.decontaminate",
            task.decontaminate,
            "it must be one of " + ", ".join(DECONTAMINATE),
            suggestion(task.decontaminate, DECONTAMINATE, "task.decontaminate="),
        )
    if task.validation_questions < 0:
        yield ConfigError(
            "task.validation_questions", task.validation_questions, "it must be at least 0", "write 0 for none"
        )
    if task.train:
        yield from _data_set("task.train", task.train, training=True)
    for name in task.benchmarks:
        yield from _data_set("task.benchmarks", name, training=False)
    suites = [Path(name).stem if name.endswith(".jsonl") else name for name in task.benchmarks]
    for name in dict.fromkeys(suites):
        if suites.count(name) > 1 or name == VALIDATION:
            reason = "it is the name of the held-out training questions" if name == VALIDATION else "it is named twice"
            yield ConfigError("task.benchmarks", name, f"a suite has its name from its data set: {reason}", "rename it")


def _data_set(key: str, name: str, training: bool) -> Errors:
    if name.endswith(".jsonl"):
        return
    if name not in BENCHMARKS:
        if (path := Path(name).expanduser()).exists():
            reason = file_fault(path) or "its name does not end in .jsonl; if it holds an object a line, rename it"
            yield ConfigError(key, name, *_two(reason))
            return
        known = [other for other, entry in BENCHMARKS.items() if entry.trainable or not training]
        remedy = "give a path that ends in .jsonl; or " + suggestion(name, known)
        yield ConfigError(key, name, "there is no data set of this name, and it is not a .jsonl file", remedy)
    elif training and not BENCHMARKS[name].trainable:
        known = [other for other, entry in BENCHMARKS.items() if entry.trainable]
        reason = f"it cannot be trained on: {BENCHMARKS[name].refusal}"
        yield ConfigError(key, name, reason, "train on a file of your own, or on one of " + ", ".join(known))


def task_pairings(c: RunConfig) -> Errors:
    """Settings of a shipped task that do not go together, and files that are not there. Values are legal already."""
    if isinstance(c.task, TinyConfig):
        wrong_sizes = list(_tiny_sizes(c.task))
        yield from wrong_sizes
        if c.kind == "rl" and not wrong_sizes:
            yield from _questions_left(c)
        yield from vocabulary(c, tiny_words.VOCAB_SIZE)
    elif isinstance(c.task, TextConfig):
        if c.kind == "rl":
            yield from _text_needs(c.task, c.evaluates)
        if not c.dry_run:  # a plan needs no data
            yield from _files(c.task)


def _tiny_sizes(task: TinyConfig) -> Errors:
    for name, whole in (("facts", "entities"), ("unknown", "heldout")):
        asked, limit = getattr(task, f"evaluation_{name}"), getattr(task, whole)
        if asked > limit:
            yield ConfigError(
                f"task.evaluation_{name}",
                asked,
                f"there are {limit} names to ask for, task.{whole}",
                f"write task.evaluation_{name}={limit} or less, or task.{whole}={asked}",
            )
    if task.entities + task.heldout >= NAMES:
        yield ConfigError(
            "task.heldout",
            task.heldout,
            f"with task.entities={task.entities} no name of three letters ({NAMES} in all) is left to make up",
            f"keep the sum of both below {NAMES}",
        )
    if not task.rows_per_step:
        yield ConfigError(
            "task.question_rows", 0, "the base model's corpus has no rows at all", "write task.question_rows=86"
        )


def _questions_left(c: RunConfig) -> Errors:
    """Training draws questions until enough of them are not in the evaluation: some must be left."""
    try:
        suites = TASKS[c.task.name].build(c.task, c.seed).suites()
    except ValueError as error:  # no question is left to validate on
        field, asked = "task.validation_questions", c.task.validation_questions
        yield ConfigError(field, asked, str(error), f"write {field}=0, or a larger task.train_k")
        return
    kept_apart = [suite for suite in suites if suite.primary or suite.name == VALIDATION]
    reserved = {example.prompt_ids for suite in kept_apart for example in suite.examples}
    left = 1.0 - sum(_probability(prompt_ids, c.task.multiply) for prompt_ids in reserved)
    if left < FREE_SHARE:
        yield ConfigError(
            "task.evaluation_questions",
            c.task.evaluation_questions,
            f"with task.train_k={c.task.train_k} and task.multiply={c.task.multiply:g} they are all the questions "
            "that there are, and none is left to train on",
            f"write task.evaluation_questions={len(reserved) // 2}, or a larger task.train_k",
        )


def _probability(prompt_ids: tuple[int, ...], multiply: float) -> float:
    """Of drawing a question ``Q d0 op1 .. opk =``: any first digit, then sums and products of equal chance each."""
    words = [tiny_words.TOKENS[i] for i in prompt_ids[2:-1]]
    products = sum(word.startswith("*") for word in tiny_words.OPERATORS)
    sums = len(tiny_words.OPERATORS) - products
    chances = (multiply / products if word.startswith("*") else (1 - multiply) / sums for word in words)
    return math.prod(chances) / len(tiny_words.DIGITS)


def _text_needs(task: TextConfig, evaluates: bool) -> Errors:
    if not task.train:
        names = ", ".join(name for name, entry in BENCHMARKS.items() if entry.trainable)
        yield ConfigError("task.train", "", "there is no data to train on", f"give a .jsonl file, or one of {names}")
    if evaluates and not task.benchmarks and not task.validation_questions:
        yield ConfigError(
            "task.benchmarks",
            [],
            "there is nothing to evaluate on",
            "write task.benchmarks=[math500], for example; or, to evaluate nothing, evaluation.every=0 "
            "evaluation.at_start=false evaluation.at_end=false",
        )


def _files(task: TextConfig) -> Errors:
    if task.data_dir and not os.path.isdir(Path(task.data_dir).expanduser()):
        yield ConfigError("task.data_dir", task.data_dir, "there is no such directory", "leave it out to use the hub")
    for key, path in (("task.train", task.train), *(("task.benchmarks", name) for name in task.benchmarks)):
        if path.endswith(".jsonl") and (fault := file_fault(Path(path).expanduser())):
            yield ConfigError(key, path, *_two(fault))


def _two(fault: str) -> tuple[str, str]:
    """Reason and remedy of a fault that names both."""
    reason, _, remedy = fault.partition("; ")
    return reason, remedy


def vocabulary(c: RunConfig, needed: int) -> Errors:
    """The model must have a row for every token of a task that has a vocabulary of its own (``needed`` tokens)."""
    shape, origin = effective_shape(c)
    if shape.vocab_size >= needed:
        return
    reason = f"task {c.task.name} has {needed} tokens"
    if shape is c.model.shape:
        remedy = f"write model.shape.vocab_size={needed} or more"
        yield ConfigError("model.shape.vocab_size", shape.vocab_size, reason, remedy)
    else:
        reason = f"{reason}, {origin} says vocab_size {shape.vocab_size}"
        yield ConfigError("model.path", c.model.path, reason, "use a model that was made for the task")
