"""The tiny world's names and their meaning, and its arithmetic. A seed fixes everything here.

Names are three letters. 550 of the 17,576 are reserved: 150 *entities* with a known answer distribution each, and 400
*held-out* names that no training row mentions. The corpus draws made-up names from the rest.

Arithmetic is modulo 10 from left to right; ``*`` is multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import tokenizer as tk

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Purposes of random streams. A stream is named by (seed, purpose, step), never shared, so that drawing
# more for one purpose changes nothing for another.
STREAM_WORLD, STREAM_CORPUS, STREAM_TRAIN, STREAM_EVALUATION, STREAM_FLOOR = range(5)
STREAM_GOLD, STREAM_VALIDATION, STREAM_VALIDATION_GOLD = 5, 6, 7
STREAM_ANCHOR = 8  # and the next ones, one for each source

TOP_PROBABILITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ABSTAIN = 10  # index of "?" beside the digits 0-9 in an answer distribution
FACT_ABSTAIN = 0.05  # share of "?" in every entity's distribution
MAX_K = 4  # longest chain of the corpus


def stream(seed: int, purpose: int, step: int = 0) -> np.random.Generator:
    """Returns the random generator of (seed, purpose, step). Raises ValueError if one of them is negative."""
    return np.random.default_rng([seed, purpose, step])


def _operator_tables() -> tuple[IntArray, IntArray]:
    """Returns (17, 10) results of applying operator o to digit d: the true ones, and those with ``*`` computed as
    ``+``."""
    digits = np.arange(10)
    true, sloppy = [], []
    for symbol in tk.OPERATORS:
        value = int(symbol[1:])
        sloppy.append((digits + value) % 10)
        true.append((digits * value) % 10 if symbol[0] == "*" else (digits + value) % 10)
    return np.array(true, dtype=np.int64), np.array(sloppy, dtype=np.int64)


TRUE_RESULT, SLOPPY_RESULT = _operator_tables()


def fact_distribution(top: float, digits: IntArray) -> FloatArray:
    """Returns (11,) probabilities of the digits 0-9 and "?", for four distinct digits in order of rank.

    The first has ``top``, the second min(.6(1 - top), .7 top), and the other two share the rest equally (equal shares
    are our choice). All of it is scaled by .95, with .05 for "?".
    """
    second = min(0.6 * (1.0 - top), 0.7 * top)
    rest = 1.0 - top - second
    probabilities = np.zeros(11)
    probabilities[digits[:4]] = np.array([top, second, rest / 2, rest / 2]) * (1.0 - FACT_ABSTAIN)
    probabilities[ABSTAIN] = FACT_ABSTAIN
    return probabilities


@dataclass(frozen=True)
class World:
    """Holds names as letter indices 0-25, and distributions as float64."""

    seed: int
    entities_E3: IntArray  # the known names
    answers_EV: FloatArray  # (E, 11): digits 0-9 and "?"
    heldout_H3: IntArray  # names that no training row mentions
    pool_M3: IntArray  # all other names: the corpus's made-up ones

    @cached_property
    def truth_EV(self) -> FloatArray:
        """(E, 10) probability that digit d is right: the distribution without "?", renormalised."""
        digits = self.answers_EV[:, :ABSTAIN]
        return np.asarray(digits / digits.sum(axis=1, keepdims=True))


def make_world(seed: int, entities: int = 150, heldout: int = 400) -> World:
    """Makes the world of ``seed``.

    The seven top probabilities are dealt out evenly over the entities and shuffled, not drawn, so that worlds differ
    less in how uncertain they are (our choice).
    """
    rng = stream(seed, STREAM_WORLD)
    letters = len(tk.LETTERS)
    order = rng.permutation(letters**3)
    names = np.stack([order // letters**2, order // letters % letters, order % letters], axis=1)
    tops = rng.permutation(np.resize(np.array(TOP_PROBABILITIES), entities))
    answers = np.stack([fact_distribution(float(top), rng.permutation(10)) for top in tops])
    reserved = entities + heldout
    return World(seed, names[:entities], answers, names[entities:reserved], names[reserved:])


def draw_questions(rng: np.random.Generator, rows: int, k: int, multiply: float) -> tuple[IntArray, IntArray]:
    """Draws ``rows`` arithmetic questions of ``k`` operators: starts (rows,) and operator indices (rows, k).

    An operator multiplies with probability ``multiply`` (operand uniform in 2-9), else adds (1-9).
    """
    starts = rng.integers(0, 10, rows)
    times = rng.random((rows, k)) < multiply
    operators = np.where(times, rng.integers(9, 17, (rows, k)), rng.integers(0, 9, (rows, k)))
    return starts, operators


def solve(starts: IntArray, operators: IntArray) -> IntArray:
    """Computes the true running results (rows, k) of chains."""
    results = np.empty_like(operators)
    current = starts
    for step in range(operators.shape[1]):
        current = TRUE_RESULT[operators[:, step], current]
        results[:, step] = current
    return results


def name_prompt(name_3: IntArray) -> tuple[int, ...]:
    """Encodes ``F l1 l2 l3 =`` as token ids."""
    return (tk.FACT, *(int(letter) + tk.LETTER for letter in name_3), tk.EQUALS)


def question_prompt(start: int, operators_k: IntArray) -> tuple[int, ...]:
    """Encodes ``Q d0 op1 .. opk =`` as token ids."""
    return (tk.QUESTION, start + tk.DIGIT, *(int(o) + tk.OPERATOR for o in operators_k), tk.EQUALS)
