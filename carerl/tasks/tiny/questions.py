"""The tiny world's questions of arithmetic: those of evaluation and validation, and what is left to train on."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from carerl.types import Example

from ..base import VALIDATION
from . import tokenizer as tk
from .world import STREAM_EVALUATION, STREAM_VALIDATION, draw_questions, question_prompt, solve, stream

K_VALUES = (2, 3, 4)  # operators of a question
BLOCK = 32  # training questions drawn with one generator
MAX_QUESTIONS = 5000  # of an evaluation suite; there are 2,890 different ones with k = 2
MAX_BLOCKS = 1000  # drawn for one that is left: training takes one in a thousand for too few


TRUE, ETA = "true", "eta"  # in Example.meta of a world with noisy golds: the true answer, and P(gold is another digit)


def with_noise(examples: Sequence[Example], noise: float) -> list[Example]:
    """Notes in each question's ``meta`` its true answer and the probability, ``noise`` times its first digit, that a
    gold answer drawn for it is another digit. The gold answer stays true: an evaluation knows the probabilities."""
    return [
        replace(example, meta={TRUE: example.gold, ETA: noise * (example.prompt_ids[1] - tk.DIGIT)})
        for example in examples
    ]


def drawn_golds(rng: np.random.Generator, examples: Sequence[Example]) -> list[Example]:
    """Draws a gold answer for each question of :func:`with_noise`. Every wrong digit has the same chance."""
    flips, shifts = rng.random(len(examples)), rng.integers(1, 10, len(examples))
    return [
        replace(example, gold=str((int(example.gold) + int(shift)) % 10)) if flip < example.meta[ETA] else example
        for example, flip, shift in zip(examples, flips, shifts, strict=True)
    ]


@dataclass(frozen=True)
class Questions:
    """The questions of one world. ``multiply``: the probability that an operator is ``*``."""

    seed: int
    multiply: float

    def draw(self, rng: np.random.Generator, n: int, k: int, prefix: str) -> list[Example]:
        """Draws ``n`` questions of ``k`` operators."""
        starts, operators = draw_questions(rng, n, k, self.multiply)
        gold = solve(starts, operators)[:, -1]
        return [
            Example(f"{prefix}/{i}", question_prompt(int(starts[i]), operators[i]), str(int(gold[i]))) for i in range(n)
        ]

    def evaluation(self, n: int, k: int) -> list[Example]:
        """Draws the questions of the evaluation suite of ``k`` operators."""
        return self.draw(stream(self.seed, STREAM_EVALUATION, k), n, k, f"q{k}")

    def unreserved(self, rng: np.random.Generator, k: int, reserved: Collection[tuple[int, ...]]) -> list[Example]:
        """Draws a block of questions and returns those whose prompts are not reserved."""
        return [example for example in self.draw(rng, BLOCK, k, "") if example.prompt_ids not in reserved]

    def validation(self, n: int, k: int, reserved: Collection[tuple[int, ...]]) -> list[Example]:
        """Draws the validation questions as training questions are drawn. Raises ValueError where the reserved prompts,
        the evaluation's, leave too few."""
        rng = stream(self.seed, STREAM_VALIDATION)
        examples: list[Example] = []
        for _ in range(MAX_BLOCKS):
            examples += self.unreserved(rng, k, reserved)
            if len(examples) >= n:
                return [replace(example, id=f"{VALIDATION}/{i}") for i, example in enumerate(examples[:n])]
        raise ValueError(
            f"task.validation_questions = {n}: what the evaluation asks leaves too few; ask for fewer of either"
        )

    def chance(self, prompt_ids: tuple[int, ...]) -> float:
        """Returns the probability of drawing a question ``Q d0 op1 .. opk =``: any first digit, then sums and products,
        each operand with equal chance."""
        words = [tk.TOKENS[i] for i in prompt_ids[2:-1]]
        products = sum(word.startswith("*") for word in tk.OPERATORS)
        sums = len(tk.OPERATORS) - products
        chances = (self.multiply / products if w.startswith("*") else (1 - self.multiply) / sums for w in words)
        return math.prod(chances) / len(tk.DIGITS)
