"""Compares methods of inference at equal K, and at equal tokens.

A method that ends branches early, or shares their beginnings, draws fewer tokens than another with the same K. So each
method gets a curve: the expected accuracy with its first k branches over the mean tokens of those, pruned ones
included. At a number of tokens between two k a question is as if it had k branches with some probability and k + 1
otherwise, such that the mean tokens over the questions are as many [ours]. Below the mean tokens of its first branch
a curve has no value: no response at all would count as wrong there, and whatever costs less than one response of the
baseline would gain by that alone [ours].

Where branches may be taken in any order (:class:`carerl.inference.methods.MethodEntry`) the accuracy is a mean over
orders, else it is that of the drawn order. Weights are those that the branches have among all K [ours].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carerl.calibration import Estimate, mean_interval
from carerl.calibration.intervals import studentised_interval, sums_over_questions

from .base import Branch
from .election import Election

FloatArray = NDArray[np.float64]
ROUNDING = 1e-9  # relative, of mean tokens
SHUFFLES = 4  # orders of a question's branches, each in all its rotations, so that every branch leads equally often
ORDERS = 40  # with more branches than ten there are fewer shuffles: about so many orders in all
ROTATIONS = 64  # of one shuffle at most: with more branches, every second or third of them leads, and so on


@dataclass(frozen=True, eq=False)
class Curve:
    """Holds what each of Q questions costs and gives with its first 0 … K branches; with all it has, where it has fewer
    than K. ``tokens_QK``: all that were drawn for them. ``right_QK``: the expected correctness; of no branch it is 0,
    which enters no figure."""

    tokens_QK: FloatArray
    right_QK: FloatArray

    @property
    def tokens_K(self) -> FloatArray:
        """The mean tokens of a question, from 0 on; never falling."""
        return np.asarray(self.tokens_QK.mean(axis=0))

    def right_at(self, tokens: float) -> FloatArray:
        """Returns (Q,) expected correctness where a question gets this many tokens in the mean; with all branches, if
        it is more than they have. NaN where they are fewer than those of the first branch."""
        mean_K = self.tokens_K
        if tokens < mean_K[1] * (1 - ROUNDING):
            return np.full(len(self.right_QK), np.nan)
        tokens = max(tokens, float(mean_K[1]))
        above = int(np.searchsorted(mean_K, tokens, side="right"))
        if above == len(mean_K):
            return np.asarray(self.right_QK[:, -1])
        share = (tokens - mean_K[above - 1]) / (mean_K[above] - mean_K[above - 1])
        return np.asarray((1 - share) * self.right_QK[:, above - 1] + share * self.right_QK[:, above])

    def points(self) -> list[tuple[float, Estimate]]:
        """Returns mean tokens and accuracy with 1 … K branches; intervals are over questions."""
        columns = zip(self.tokens_K[1:].tolist(), self.right_QK.T[1:], strict=True)
        return [(tokens, mean_interval(right_Q)) for tokens, right_Q in columns]


def curve(
    questions: Sequence[Sequence[Branch]],
    right: Sequence[Sequence[bool]],
    rule: str = "vote",
    exchangeable: bool = True,
    seed: int = 0,
) -> Curve:
    """Makes the curve of a method from all its questions.

    ``questions``: each one's branches with their answers, in drawn order. ``right``: whether each branch's answer is
    right. Raises ValueError without a question, for a question without a branch, and for lists of unequal lengths.
    """
    if not questions or not all(questions):
        raise ValueError("a curve needs questions with branches")
    width = max(map(len, questions))
    tokens_QK, right_QK = np.zeros((len(questions), width + 1)), np.zeros((len(questions), width + 1))
    pairs = zip(questions, right, strict=True)
    for row, (branches, correct) in enumerate(pairs):
        found = _question(branches, correct, rule, _orders(len(branches), seed) if exchangeable else None)
        for column in range(width + 1):
            tokens_QK[row, column], right_QK[row, column] = found[min(column, len(branches))]
    return Curve(tokens_QK, right_QK)


def _question(
    branches: Sequence[Branch], right: Sequence[bool], rule: str, orders: list[list[int]] | None
) -> list[tuple[float, float]]:
    """Returns mean tokens and correctness with the first 0 … n branches."""
    if len(right) != len(branches):
        raise ValueError(f"{len(right)} verdicts for {len(branches)} branches")
    orders = orders or [list(range(len(branches)))]
    tokens_K, wins_K = np.zeros(len(branches) + 1), np.zeros(len(branches) + 1)
    for order in orders:
        election, tokens = Election(rule), 0
        for count, number in enumerate(order, 1):
            election.take(number, branches[number])
            tokens += branches[number].own
            winner = election.winner()
            tokens_K[count] += tokens
            wins_K[count] += winner >= 0 and right[winner]
    return list(zip((tokens_K / len(orders)).tolist(), (wins_K / len(orders)).tolist(), strict=True))


def _orders(count: int, seed: int) -> list[list[int]]:
    """Returns orders of the branches; the same for every question with as many."""
    rng = np.random.default_rng([seed, count])
    shuffles = [rng.permutation(count).tolist() for _ in range(min(SHUFFLES, max(1, ORDERS // count)))]
    turns = range(0, count, -(-count // ROTATIONS))
    return [order[turn:] + order[:turn] for order in shuffles for turn in turns]


def difference_at_equal_budget(method: Curve, baseline: Curve) -> Estimate:
    """Returns accuracy of the method − of the baseline, each with all its branches, paired over questions."""
    return _difference(method.right_QK[:, -1], baseline.right_QK[:, -1])


def difference_at_equal_tokens(method: Curve, baseline: Curve, tokens: float | None = None) -> Estimate:
    """Returns accuracy of the method − of the baseline where both get this many tokens a question in the mean, paired
    over questions. None: as many as the cheaper of the two draws with all its branches. NaN where that is less than one
    branch of the other."""
    common = float(min(method.tokens_K[-1], baseline.tokens_K[-1])) if tokens is None else tokens
    method_Q, baseline_Q = method.right_at(common), baseline.right_at(common)
    if np.isnan(method_Q).any() or np.isnan(baseline_Q).any():
        return Estimate(float("nan"))
    return _difference(method_Q, baseline_Q)


def differences(method: Curve, baseline: Curve) -> list[tuple[float, Estimate]]:
    """Returns mean tokens and :func:`difference_at_equal_tokens` with the method's first 1 … K branches, up to the
    tokens that the baseline draws in all."""
    within = [float(tokens) for tokens in method.tokens_K[1:] if tokens <= baseline.tokens_K[-1]]
    return [(tokens, difference_at_equal_tokens(method, baseline, tokens)) for tokens in within]


def _difference(method_Q: FloatArray, baseline_Q: FloatArray) -> Estimate:
    """Raises ValueError for different numbers of questions."""
    if len(method_Q) != len(baseline_Q):
        raise ValueError(f"paired methods need the same questions: {len(method_Q)} and {len(baseline_Q)}")
    index = np.arange(len(method_Q))
    runs = [sums_over_questions(right_Q, index, len(index)) for right_Q in (method_Q, baseline_Q)]
    return studentised_interval(runs)
