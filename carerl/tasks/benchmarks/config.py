"""Settings of the tasks over text: which data sets they train and evaluate on, and how they ask."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from carerl.errors import ConfigError, suggestion
from carerl.settings import Errors, Run, at_least, one_of
from carerl.tasks.rows.file_kinds import file_fault
from carerl.tasks.taught import TEACH

from ..base import VALIDATION, TaskConfig
from .table import BENCHMARKS

CONFIDENCE_TAG = "<confidence>"
CONFIDENCE = (
    "\n\nAfter the answer, state how likely it is that your answer is right, as a number between 0 and 1, "
    f"within {CONFIDENCE_TAG} </confidence> tags."
)
DECONTAMINATE = ("drop", "refuse", "off")
THINKING = ("default", "off")


@dataclass
class TextConfig(TaskConfig):
    r"""Settings of every task over text. A data set is a name of :data:`~carerl.tasks.benchmarks.table.BENCHMARKS`, or
    the path of a ``.jsonl`` file (see :mod:`~carerl.tasks.benchmarks.jsonl`).

    ``prompt_template`` must hold ``{question}``, which stands for the question and its options; '' is each data set's
    own. A tokenizer without a chat template gets system prompt and filled template as plain text. A row's own
    ``system`` and another ``system_prompt`` do not go together: such a row is refused.

    ``ask_confidence`` adds :data:`CONFIDENCE` to whatever the template is, unless that has a ``<confidence>`` of its
    own: the form of the answer stays the data set's, and what is stated behind it is read by
    :func:`~carerl.calibration.verbalized_confidence`.
    """

    name: str = "jsonl"
    train: str = ""  # what is trained on; needed for training only
    benchmarks: list[str] = field(default_factory=list)  # what is evaluated on; the first is the primary one
    data_dir: str = ""  # a data set's file is looked for here, and then on the hub
    system_prompt: str = ""
    prompt_template: str = ""
    ask_confidence: bool = False  # have every response state how sure it is, see CONFIDENCE
    decontaminate: Annotated[str, one_of(DECONTAMINATE)] = (
        "drop"  # drop | refuse | off: training rows that overlap an evaluation prompt
    )
    # training questions held out as the suite `validation`; the same for every seed
    validation_questions: Annotated[int, at_least(0)] = 0
    # training questions to train on, drawn from those that are left, the same for every seed; 0: all
    train_questions: Annotated[int, at_least(0)] = 0
    # solution | decision: what supervised finetuning learns of a row, see carerl/tasks/taught.py
    teach: Annotated[str, one_of(TEACH)] = "solution"
    # default | off: off asks the model not to think first, where its chat template has a switch for that
    thinking: Annotated[str, one_of(THINKING)] = "default"
    # data sets of the hub with their commits, owner/name@commit: found by the run and written down; or a tag of yours
    hub_revisions: list[str] = field(default_factory=list)
    # training prompts of more tokens are dropped; 0: what max_model_len leaves for a prompt
    max_prompt_tokens: Annotated[int, at_least(0)] = 0

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        if self.prompt_template and "{question}" not in self.prompt_template:
            yield ConfigError(
                "task.prompt_template",
                self.prompt_template,
                "it does not hold {question}: the question would be missing",
                "write {question} where the question belongs, or nothing for the data set's own template",
            )
        if self.train:
            yield from _data_set("task.train", self.train, training=True)
        for name in self.benchmarks:
            yield from _data_set("task.benchmarks", name, training=False)
        yield from self._suites()
        if run.trains_on_questions:
            yield from self._needs(run.evaluates)
        if run.taught and self.ask_confidence:
            yield ConfigError(
                "task.ask_confidence",
                True,
                "the prompt asks for a confidence, and the responses that are learned state none",
                "leave it out",
            )
        if not run.dry_run:  # a plan needs no data
            yield from self._files()

    def _suites(self) -> Errors:
        suites = [Path(name).stem if name.endswith(".jsonl") else name for name in self.benchmarks]
        for name in dict.fromkeys(suites):
            if suites.count(name) > 1 or name == VALIDATION:
                reason = (
                    "it is the name of the held-out training questions" if name == VALIDATION else "it is named twice"
                )
                yield ConfigError(
                    "task.benchmarks", name, f"a suite has its name from its data set: {reason}", "rename it"
                )

    def _needs(self, evaluates: bool) -> Errors:
        if not self.train:
            names = ", ".join(name for name, entry in BENCHMARKS.items() if entry.trainable)
            yield ConfigError(
                "task.train", "", "there is no data to train on", f"give a .jsonl file, or one of {names}"
            )
        if evaluates and not self.benchmarks and not self.validation_questions:
            yield ConfigError(
                "task.benchmarks",
                [],
                "there is nothing to evaluate on",
                "write task.benchmarks=[math500], for example; or, to evaluate nothing, evaluation.every=0 "
                "evaluation.at_start=false evaluation.at_end=false",
            )

    def _files(self) -> Errors:
        if self.data_dir and not os.path.isdir(Path(self.data_dir).expanduser()):
            yield ConfigError(
                "task.data_dir", self.data_dir, "there is no such directory", "leave it out to use the hub"
            )
        for key, path in (("task.train", self.train), *(("task.benchmarks", name) for name in self.benchmarks)):
            if path.endswith(".jsonl") and (fault := file_fault(Path(path).expanduser())):
                yield ConfigError(key, path, *_two(fault))


@dataclass
class MathConfig(TextConfig):
    """MATH's training problems, evaluated on MATH-500."""

    name: str = "math"
    train: str = "math_train"
    benchmarks: list[str] = field(default_factory=lambda: ["math500"])


@dataclass
class Gsm8kConfig(TextConfig):
    """GSM8K's training problems, evaluated on its test problems."""

    name: str = "gsm8k"
    train: str = "gsm8k_train"
    benchmarks: list[str] = field(default_factory=lambda: ["gsm8k"])


@dataclass
class CommonsenseQAConfig(TextConfig):
    """CommonsenseQA's training questions, evaluated on its development questions."""

    name: str = "commonsenseqa"
    train: str = "commonsenseqa_train"
    benchmarks: list[str] = field(default_factory=lambda: ["commonsenseqa"])


@dataclass
class OpenBookQAConfig(TextConfig):
    """OpenBookQA's training questions, evaluated on its test questions."""

    name: str = "openbookqa"
    train: str = "openbookqa_train"
    benchmarks: list[str] = field(default_factory=lambda: ["openbookqa"])


@dataclass
class CountdownConfig(TextConfig):
    """Countdown's training problems, evaluated on its test problems."""

    name: str = "countdown"
    train: str = "countdown_train"
    benchmarks: list[str] = field(default_factory=lambda: ["countdown"])


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


def _two(fault: str) -> tuple[str, str]:
    """Splits a fault that names its remedy into reason and remedy."""
    reason, _, remedy = fault.partition("; ")
    return reason, remedy
