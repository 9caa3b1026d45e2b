"""Reads the questions of a text task: what is trained on, what is validated on, and what evaluations ask.

Everything is read when it is first asked for, and once. An evaluation without validation questions never reads training
data. What is asked where is said in :mod:`carerl.tasks.text`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.benchmarks.table import find_benchmark, training_questions
from carerl.tasks.rows.decontamination import Overlap, overlaps, without_overlaps
from carerl.tasks.rows.questions import Question

_EVALUATION_ORDER_SEED = 20260131


class TextData:
    """Holds the questions of one run. ``names``: the benchmarks' full names, one for each of the settings'."""

    def __init__(self, config: TextConfig, names: Sequence[str]) -> None:
        self.overlapping: tuple[Overlap, ...] = ()  # training questions that were dropped, once data has been read
        self._config = config
        self._names = tuple(names)
        self._evaluation: dict[str, list[Question]] = {}
        self._split: tuple[list[Question], list[Question]] | None = None

    def evaluation(self) -> dict[str, list[Question]]:
        """Returns the questions of each benchmark, in the order of the settings."""
        if not self._evaluation:
            for name, given in zip(self._names, self._config.benchmarks, strict=True):
                self._evaluation[name] = find_benchmark(given).load(self._config.data_dir, self._config.hub_revisions)
        return self._evaluation

    def usable(self, source: str) -> tuple[list[Question], tuple[Overlap, ...]]:
        """Returns the questions of a data set or file that this run asks in no evaluation, validation included, and
        which overlap one. ``task.decontaminate=refuse`` refuses those, and every other mode leaves them out."""
        held = self.training()[1]
        asked = [question for questions in self.evaluation().values() for question in questions]
        return without_overlaps(source, self._read(source), [*asked, *held], self._config.decontaminate == "refuse")

    def apart(self, source: str) -> list[Question]:
        """Returns the questions of a data set or file that this run neither trains on nor asks in an evaluation,
        validation included, whatever ``task.decontaminate`` says. Warns of those that are left out."""
        trained, held = self.training()
        asked = [question for questions in self.evaluation().values() for question in questions]
        everything = self._read(source)
        dropped = {found.train_id for found in overlaps(everything, [*asked, *held, *trained])}
        if dropped:
            warnings.warn(
                f"{source}: {len(dropped)} of {len(everything)} prompts overlap one that is rewarded or evaluated: "
                "left out",
                stacklevel=2,
            )
        return [question for question in everything if question.id not in dropped]

    def _read(self, source: str) -> list[Question]:
        return training_questions(source, self._config.data_dir, self._config.hub_revisions)

    def training(self) -> tuple[list[Question], list[Question]]:
        """Returns the questions to train on, too long ones included, and those to validate on."""
        if self._split is None:
            if not self._config.train:
                raise ValueError("task.train is empty: there is nothing to train on")
            config = self._config
            questions, self.overlapping = self.decontaminated(config.train, self._read(config.train))
            held = shuffled(questions)[: self._config.validation_questions]
            taken = {question.id for question in held} | {found.train_id for found in overlaps(questions, held)}
            train = [question for question in questions if question.id not in taken]
            if few := config.train_questions:
                if few > len(train):
                    raise ValueError(f"task.train_questions = {few}: {config.train} has {len(train)} to train on")
                left = [question.id for question in shuffled(questions) if question.id not in taken]
                chosen = set(left[:few])
                train = [question for question in train if question.id in chosen]
            if not train:
                raise ValueError(
                    f"{self._config.train}: no question is left to train on; {len(questions)} do not overlap the "
                    f"evaluation, and task.validation_questions = {self._config.validation_questions}"
                )
            self._split = train, held
        return self._split

    def decontaminated(self, name: str, train: list[Question]) -> tuple[list[Question], tuple[Overlap, ...]]:
        """Returns :func:`~carerl.tasks.rows.decontamination.without_overlaps` of a data set with the evaluation."""
        if self._config.decontaminate == "off":
            return train, ()
        evaluation = [question for questions in self.evaluation().values() for question in questions]
        return without_overlaps(name, train, evaluation, self._config.decontaminate == "refuse")


def shuffled(questions: Sequence[Question]) -> list[Question]:
    """Puts questions into the fixed order of evaluations."""
    order = np.random.default_rng(_EVALUATION_ORDER_SEED).permutation(len(questions))
    return [questions[i] for i in order]
