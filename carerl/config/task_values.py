"""What a task's settings may be, alone and together. No file is read, so that a plan is refused by it too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carerl.config.errors import ConfigError
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.tasks import TASKS
from carerl.tasks.math import MathConfig
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
    elif isinstance(task, MathConfig):
        yield from _math_values(task)


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
    for name, low in (*((name, 1) for name in AT_LEAST_ONE), *((name, 0) for name in ROWS)):
        value = getattr(task, name)
        if value < low:
            yield ConfigError(f"task.{name}", value, f"it must be at least {low}", f"write task.{name}={low} or more")
    if task.evaluation_questions > MAX_QUESTIONS:
        yield ConfigError(
            "task.evaluation_questions",
            task.evaluation_questions,
            f"it must be at most {MAX_QUESTIONS}: no evaluation question is trained on",
            f"write task.evaluation_questions={MAX_QUESTIONS} or less",
        )


def _math_values(task: MathConfig) -> Errors:
    if "{problem}" not in task.prompt_template:
        yield ConfigError(
            "task.prompt_template",
            task.prompt_template,
            "it does not hold {problem}: the question would be missing",
            "write {problem} where the question belongs",
        )
    for path, split in (("train_path", "train_split"), ("eval_path", "eval_split")):
        name = getattr(task, path).strip()
        if not name:
            yield ConfigError(
                f"task.{path}", "", "there is no data", f"write task.{path}=, a .jsonl file or a hub id owner/name"
            )
        elif not name.endswith(".jsonl") and not getattr(task, split).strip():
            yield ConfigError(
                f"task.{split}",
                "",
                f"a data set of the hub has splits, and none of {name} is named",
                f"write task.{split}={getattr(MathConfig, split)}",
            )


def task_pairings(c: RunConfig) -> Errors:
    """Settings of a shipped task that do not go together, and files that are not there. Values are legal already."""
    if isinstance(c.task, TinyConfig):
        wrong_sizes = list(_tiny_sizes(c.task))
        yield from wrong_sizes
        if c.kind == "rl" and not wrong_sizes:
            yield from _questions_left(c)
        yield from vocabulary(c, tiny_words.VOCAB_SIZE)
    elif isinstance(c.task, MathConfig) and not c.dry_run:  # a plan needs no data
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
    suites = TASKS[c.task.name].build(c.task, c.seed).suites()
    reserved = {example.prompt_ids for suite in suites if suite.primary for example in suite.examples}
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


def _files(task: MathConfig) -> Errors:
    for key in ("train_path", "eval_path"):
        path = getattr(task, key)
        if path.endswith(".jsonl") and not Path(path).is_file():
            yield ConfigError(f"task.{key}", path, "there is no such file", "give a .jsonl file that exists")
        elif not path.endswith(".jsonl") and Path(path).is_file():
            yield ConfigError(
                f"task.{key}", path, "it is not a .jsonl file", "give one JSON object a line, in a file named .jsonl"
            )


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
