"""Settings of the tiny world."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TinyConfig:
    """Holds the world's sizes and probabilities. The defaults are the world of this package's docstring.

    ``*_rows`` count the rows of one step of the base model's corpus. Probabilities are those of its ``Q`` rows. Sizes
    of suites are in questions. ``evaluation_unknown`` is at most ``heldout``.
    """

    name: str = "tiny"
    train_k: int = 3  # operators of an RL question
    entities: int = 150
    heldout: int = 400  # names that no training row mentions
    multiply: float = 0.25  # an operator is * with this probability
    careful: float = 0.02
    textbook_careful: float = 0.7  # of textbook rows; at 1 the tags Q and W tell the method, and C and D nothing
    step_error: float = 0.04
    abstain: float = 0.15
    facts_rows: int = 76
    unknowable_rows: int = 30
    question_rows: int = 86
    textbook_rows: int = 64
    evaluation_questions: int = 300  # of each k
    evaluation_facts: int = 150  # at most ``entities``
    evaluation_unknown: int = 150
    validation_questions: int = 0  # of the suite `validation`, never trained on and never reported; 0: no such suite

    @property
    def rows_per_step(self) -> int:
        return self.facts_rows + self.unknowable_rows + self.question_rows + self.textbook_rows
