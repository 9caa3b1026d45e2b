"""Plans what an evaluation decodes, and refuses what cannot be, before any actor starts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carerl.config.lengths import asked, new_tokens
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.controller.preparation import stop_ids
from carerl.errors import ConfigError, nearest, suggestion
from carerl.inference.config import DecodeConfig
from carerl.inference.context import Context
from carerl.inference.methods import METHODS
from carerl.inference.steps import Splitter, for_tokenizer
from carerl.seeds import derived_seed
from carerl.tasks import Suite, Task
from carerl.tasks.base import VALIDATION, SplitsSteps
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.benchmarks.table import trainable_part, trained_suites


@dataclass(frozen=True)
class Plan:
    """Holds what is decoded. ``suites``: those that are decoded. ``validation``:
    the questions that thresholds are learned on; None if no method learns one. ``vocab``: V of the model."""

    config: RunConfig
    suites: tuple[Suite, ...]
    validation: Suite | None
    splitter: Splitter
    vocab: int
    stop_ids: tuple[int, ...]

    @property
    def decode(self) -> DecodeConfig:
        """The settings of the methods, with the temperature that they sample at."""
        own = self.config.decode
        return replace(own, temperature=own.temperature or self.config.evaluation.temperature)

    @property
    def learning(self) -> tuple[str, ...]:
        """The methods that learn a threshold."""
        return learning(self.config)

    @property
    def source(self) -> str:
        """The data set that thresholds are learned on; '' where the task has questions of its own."""
        return self.config.task.train if isinstance(self.config.task, TextConfig) else ""

    @property
    def warning(self) -> str:
        """What is to be said before anything is asked: which suites are of other data than the questions that
        thresholds are learned on. '' for nothing."""
        if not self.learning or not self.source:
            return ""
        trained = trained_suites(vars(self.config.task))
        others = [suite.name for suite in self.suites if suite.name not in trained]
        if not others:
            return ""
        part = trainable_part(others[0])
        learned_there = f"; task.train={part} would have them learned on {part}" if part else ""
        return (
            f"warning: the threshold of {' and '.join(self.learning)} is learned on questions of {self.source}, which "
            f"is other data than {', '.join(others)}{learned_there}"
        )

    @property
    def questions(self) -> int:
        """How many questions are answered, counted for each method."""
        return len(self.config.decode.methods) * sum(len(suite.examples) for suite in self.suites)

    @property
    def room(self) -> int:
        """How many responses are drawn at a time: what the engines decode together, and a quarter of it queued."""
        rollout = self.config.rollout
        return max(1, 5 * rollout.actors * rollout.max_batch_rows // 4)

    def context(self, suite: Suite, number: int, threshold: float = 0.0) -> Context:
        """Returns what a method knows of a suite's question. Its seed follows from the suite's name and the question's
        number: what else is asked, and which methods are compared, changes no response."""
        of_suite = derived_seed(self.config.evaluation.seed, zlib.crc32(suite.name.encode()))
        return Context(
            seed=derived_seed(of_suite, number),
            max_new_tokens=new_tokens(self.config, suite),
            vocab=self.vocab,
            splitter=self.splitter,
            decode=self.decode,
            threshold=threshold,
            stop_ids=frozenset(self.stop_ids),
        )


def planned(config: RunConfig, task: Task, tokenizer: Any, suites: Sequence[Suite]) -> Plan | None:
    """Returns what is decoded of the evaluation's ``suites``; None if nothing is. Raises ConfigError."""
    decode = config.decode
    if not decode.methods:
        return None
    decoded = _decoded(decode.suites, [suite for suite in suites if suite.name != VALIDATION])
    if decode.show:
        check_shown(decode.show, [example.id for suite in decoded for example in suite.examples])
    return Plan(
        config,
        decoded,
        _validation(config, task) if learning(config) else None,
        _splitter(config, task, tokenizer),
        effective_shape(config)[0].vocab_size,
        stop_ids(config, task),
    )


def _decoded(wanted: Sequence[str], evaluated: Sequence[Suite]) -> tuple[Suite, ...]:
    """Returns those of the evaluated suites that are decoded, in their order. Raises ConfigError for another name."""
    names = [suite.name for suite in evaluated]
    for name in wanted:
        if name not in names:
            raise ConfigError("decode.suites", name, "no suite of this name is evaluated", suggestion(name, names))
    return tuple(suite for suite in evaluated if not wanted or suite.name in wanted)


def learning(config: RunConfig) -> tuple[str, ...]:
    """Returns the methods that learn a threshold."""
    return tuple(name for name in config.decode.methods if METHODS[name].learns(config.decode))


def check_shown(wanted: str, known: Sequence[str]) -> None:
    """Refuses a question that is not among those that were decoded. Raises ConfigError."""
    if wanted not in known:
        near = nearest(wanted, known) or next(iter(known), "")
        raise ConfigError("decode.show", wanted, "no question with this id is decoded", f"write decode.show={near}")


def _validation(config: RunConfig, task: Task) -> Suite:
    """Returns the questions that thresholds are learned on. Raises ConfigError if the task holds none out."""
    found = [suite for suite in task.suites() if suite.name == VALIDATION and suite.examples]
    if not found:
        methods = learning(config)
        raise ConfigError(
            "decode.methods",
            config.decode.methods,
            f"{' and '.join(methods)} would learn a threshold on validation questions, and there are none: on those "
            "that are evaluated it would know them already",
            " ".join(_remedies(config, methods)),
        )
    suite = asked(config, found[0])
    return replace(suite, examples=suite.examples[: config.decode.validation_questions])


def _remedies(config: RunConfig, methods: Sequence[str]) -> Iterator[str]:
    """Returns what can be done where there are no questions to learn a threshold on."""
    if config.task.validation_questions is not None:
        yield f"write {_trained(config)}task.validation_questions=64 to hold out as many training questions;"
    if "deepconf" in methods:
        yield "write decode.deepconf.warmup=4 to take deepconf's bar from responses to the question itself;"
    if "cat" in methods:
        yield "give decode.cat.threshold if you know which confidences this model has;"
    yield f"or leave {' and '.join(methods)} out"


def _trained(config: RunConfig) -> str:
    """Returns the setting that has questions held out of the same data as what is evaluated; '' if it is there, or no
    such data are known."""
    if not isinstance(config.task, TextConfig):
        return ""
    parts = [part for name in config.task.benchmarks if (part := trainable_part(name))]
    if parts and config.task.train not in parts:
        return f"task.train={parts[0]} "
    return "" if config.task.train else "task.train=NAME "


def _splitter(config: RunConfig, task: Task, tokenizer: Any) -> Splitter:
    """Returns what cuts responses into steps. Raises ConfigError for a delimiter that the tokenizer cannot write."""
    if isinstance(task, SplitsSteps):
        return task.splitter()
    try:
        return for_tokenizer(tokenizer, config.decode.delimiter)
    except ValueError as error:
        raise ConfigError(
            "decode.delimiter", config.decode.delimiter, str(error), r'write decode.delimiter="\n", or another'
        ) from None
