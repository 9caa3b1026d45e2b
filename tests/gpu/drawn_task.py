"""A task of drawn tokens, as a plugin: ``plugins=[tests.gpu.drawn_task] task.name=drawn``.

It needs no data, no tokenizer and no network, and any vocabulary will do, so that models of every shape can be trained
with their weights drawn. Prompts are tokens that are drawn evenly. A response is right if its first token is even. That
has nothing to do with the prompt: in a group some are right and some wrong, and nearly every group trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from carerl.settings import at_least
from carerl.tasks import TASKS, Evaluation, Suite, TaskConfig, TaskEntry
from carerl.tasks.byte_tokenizer import EOS, SPECIALS
from carerl.types import Example, Group, Outcome

QUESTIONS = 256  # after which the same ones come again


@dataclass
class DrawnConfig(TaskConfig):
    name: str = "drawn"
    prompt_tokens: Annotated[int, at_least(1)] = 8  # of every prompt
    tokens: Annotated[int, at_least(len(SPECIALS) + 1)] = 64  # of the vocabulary

    @property
    def vocabulary(self) -> int:
        return self.tokens

    @property
    def writes_text(self) -> bool:
        return False

    @property
    def has_decisions(self) -> bool:
        return False


class DrawnTask:
    """Implements the task, see the module's docstring."""

    needs_tokenizer = False
    stop_ids = (EOS,)

    def __init__(self, config: DrawnConfig, seed: int) -> None:
        self.vocab_size = config.tokens
        shape = QUESTIONS, config.prompt_tokens
        self._prompts_QP = np.random.default_rng(seed).integers(len(SPECIALS), config.tokens, shape)

    def make_tokenizer(self) -> None:
        """Returns none: no text is ever read or written."""

    def attach(self, tokenizer: Any) -> None:
        """Takes any tokenizer, and has no use for it."""

    def train_examples(self, start: int, n: int) -> list[Example]:
        """Returns prompts, each with a number that never comes again."""
        return [
            Example(f"drawn/{number}", tuple(int(token) for token in self._prompts_QP[number % QUESTIONS]), "even")
            for number in range(start, start + n)
        ]

    def grade(self, example: Example, response_ids: Sequence[int], truncated: bool) -> tuple[Outcome, str | None]:
        """Grades by the first token."""
        even = response_ids[0] % 2 == 0
        return (Outcome.CORRECT, "even") if even else (Outcome.WRONG, "odd")

    def response_text(self, response_ids: Sequence[int]) -> str:
        """Returns the numbers of the tokens."""
        return " ".join(map(str, response_ids))

    def suites(self) -> list[Suite]:
        """Returns none: there is nothing to find out about the answers."""
        return []

    def evaluate(self, results: Mapping[str, Sequence[Group]]) -> Evaluation:
        """Returns no metrics."""
        return Evaluation({})


TASKS["drawn"] = TaskEntry(DrawnConfig, DrawnTask, "drawn tokens, to measure with")
