"""Settings of the tiny world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, at_least, at_most, one_of, share

from ..base import TaskConfig
from .questions import K_VALUES, MAX_QUESTIONS, Questions
from .tokenizer import LETTERS, VOCAB_SIZE

NAMES = len(LETTERS) ** 3
FREE_SHARE = 1e-3  # of the drawn questions, at least, must be none of the evaluation's: below it a step never ends
NOISE_MOST = 0.1  # times the largest first digit, 9, it stays a probability
FEW = at_most(MAX_QUESTIONS, "none of these questions is trained on")


@dataclass
class TinyConfig(TaskConfig):
    """Holds the world's sizes and probabilities. The defaults are the world of this package's docstring.

    ``*_rows`` count the rows of one step of the base model's corpus. Probabilities are those of its ``Q`` rows. Sizes
    of suites are in questions. ``evaluation_unknown`` is at most ``heldout``.
    """

    name: str = "tiny"
    train_k: Annotated[int, one_of(K_VALUES)] = 3  # operators of an RL question
    entities: Annotated[int, at_least(1)] = 150
    heldout: Annotated[int, at_least(1)] = 400  # names that no training row mentions
    multiply: Annotated[float, share(0.25)] = 0.25  # an operator is * with this probability
    careful: Annotated[float, share(0.02)] = 0.02
    # of textbook rows; at 1 the tags Q and W tell the method, and C and D nothing
    textbook_careful: Annotated[float, share(0.7)] = 0.7
    step_error: Annotated[float, share(0.04)] = 0.04
    abstain: Annotated[float, share(0.15)] = 0.15
    # 0 rows leave a family out
    facts_rows: Annotated[int, at_least(0)] = 76
    unknowable_rows: Annotated[int, at_least(0)] = 30
    question_rows: Annotated[int, at_least(0)] = 86
    textbook_rows: Annotated[int, at_least(0)] = 64
    evaluation_questions: Annotated[int, at_least(1), FEW] = 300  # of each k
    evaluation_facts: Annotated[int, at_least(1)] = 150  # at most ``entities``
    evaluation_unknown: Annotated[int, at_least(1)] = 150
    # times a question's first digit: the probability that its gold answer is another digit than the true one, drawn
    # once for each training or validation question. 0: golds are true, and no decision is uncertain
    gold_noise: Annotated[float, at_least(0), at_most(NOISE_MOST, "times 9 it is a probability")] = 0.0
    # of the suite `validation`, never trained on and never reported; 0: no such suite
    validation_questions: Annotated[int, at_least(0), FEW] = 0

    @property
    def rows_per_step(self) -> int:
        return self.facts_rows + self.unknowable_rows + self.question_rows + self.textbook_rows

    @property
    def vocabulary(self) -> int:
        return VOCAB_SIZE

    @property
    def writes_text(self) -> bool:
        return False

    @property
    def has_decisions(self) -> bool:
        return self.gold_noise > 0

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        wrong_sizes = list(self._sizes())
        yield from wrong_sizes
        if run.trains_on_questions and not wrong_sizes:
            yield from self._questions_left(run.seed)

    def _sizes(self) -> Errors:
        for name, asked, whole, limit in (
            ("evaluation_facts", self.evaluation_facts, "entities", self.entities),
            ("evaluation_unknown", self.evaluation_unknown, "heldout", self.heldout),
        ):
            if asked > limit:
                yield ConfigError(
                    f"task.{name}",
                    asked,
                    f"there are {limit} names to ask for, task.{whole}",
                    f"write task.{name}={limit} or less, or task.{whole}={asked}",
                )
        if self.entities + self.heldout >= NAMES:
            yield ConfigError(
                "task.heldout",
                self.heldout,
                f"with task.entities={self.entities} no name of three letters ({NAMES} in all) is left to make up",
                f"keep the sum of both below {NAMES}",
            )
        if not self.rows_per_step:
            yield ConfigError(
                "task.question_rows", 0, "the base model's corpus has no rows at all", "write task.question_rows=86"
            )

    def _questions_left(self, seed: int) -> Errors:
        """Refuses a world whose evaluation asks all questions: training draws until enough are not the evaluation's."""
        questions = Questions(seed, self.multiply)
        kept_apart = {example.prompt_ids for example in questions.evaluation(self.evaluation_questions, self.train_k)}
        if self.validation_questions:
            try:
                held_out = questions.validation(self.validation_questions, self.train_k, kept_apart)
            except ValueError as error:
                field = "task.validation_questions"
                remedy = f"write {field}=0, or a larger task.train_k"
                yield ConfigError(field, self.validation_questions, str(error), remedy)
                return
            kept_apart |= {example.prompt_ids for example in held_out}
        if 1.0 - sum(map(questions.chance, kept_apart)) < FREE_SHARE:
            yield ConfigError(
                "task.evaluation_questions",
                self.evaluation_questions,
                f"with task.train_k={self.train_k} and task.multiply={self.multiply:g} they are all the questions "
                "that there are, and none is left to train on",
                f"write task.evaluation_questions={len(kept_apart) // 2}, or a larger task.train_k",
            )
