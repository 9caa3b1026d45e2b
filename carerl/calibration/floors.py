"""The ECE that a model without any miscalibration would show: two floors, by simulation.

ECE of finite data is positive for everybody. ``labels_floor`` says how large it is when every stated confidence is
exactly the probability of being right, and only the labels are drawn. ``votes_floor`` says how large it is for a
perfect model that knows every answer's probability but is asked N times, so that its confidence is a share of votes:
that share's maximum overstates, whatever N. An observed ECE within a floor's range is no evidence of miscalibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bins import FloatArray, assign_bins, checked, ece

REPEATS = 200
_CELLS = 4_000_000  # numbers of a simulation held at a time


@dataclass(frozen=True, slots=True)
class Floor:
    """Holds (R,) simulated ECEs."""

    values: FloatArray

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values.size else float("nan")

    def range(self, level: float = 0.95) -> tuple[float, float]:
        """Returns the ends of the central ``level`` of the simulated values."""
        if not self.values.size:
            return float("nan"), float("nan")
        low, high = np.quantile(self.values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """Holds the answers of a perfect model: ``answers_QV``, probability of each of V answers, rows sum to 1;
    ``right_QV``, probability that each is right; ``never_wins``: columns that count in N only ("no answer"). Raises
    ValueError for shapes that differ."""

    answers_QV: FloatArray
    right_QV: FloatArray
    never_wins: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if np.ndim(self.answers_QV) != 2 or np.shape(self.answers_QV) != np.shape(self.right_QV):
            raise ValueError(f"answers {np.shape(self.answers_QV)} and right {np.shape(self.right_QV)} are one table")


def labels_floor(
    confidence: ArrayLike,
    rng: np.random.Generator,
    repeats: int = REPEATS,
    bins: int = 10,
    scheme: str = "width",
    groups: ArrayLike | None = None,
) -> Floor:
    """Simulates the ECE with labels y_i ~ Bernoulli(confidence_i), ``repeats`` times (consistency resampling: Bröcker
    and Smith 2007).

    ``groups``: (N,) items that carry one answer to one question, and so one label: samples of a question with equal
    answers are right together. None: independent labels. Raises ValueError as :func:`reliability_bins`; without
    data the floor is NaN.
    """
    c, _ = checked(confidence, np.zeros(np.shape(confidence)))
    if not len(c):
        return Floor(np.empty(0))
    index, _, _ = assign_bins(c, bins, scheme, dtype=np.asarray(confidence).dtype)
    order = np.argsort(index, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(index[order]) > 0])
    c_ordered = c[order]
    group = np.arange(len(c)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    draws = int(group.max()) + 1
    values = []
    for size in _chunks(repeats, len(c)):
        uniform = rng.random((size, draws))[:, group[order]]
        surplus = np.add.reduceat((uniform < c_ordered) - c_ordered, first, axis=1)
        values.append(np.abs(surplus).sum(axis=1) / len(c))
    return Floor(np.concatenate(values))


def votes_floor(
    table: AnswerTable,
    votes: int,
    rng: np.random.Generator,
    repeats: int = REPEATS,
    bins: int = 10,
    scheme: str = "width",
    draw_labels: bool = False,
) -> Floor:
    """Simulates the ECE of the majority share of ``votes`` answers drawn from each question's own distribution.

    Ties are broken at random; if no answer can win, the confidence is 0 and wrong. ``draw_labels``: correctness is
    drawn, as 0/1 labels are, instead of taken as the probability. Raises ValueError for votes < 1, or a scheme other
    than ``width`` and ``unique``.
    """
    p_QV, right = np.asarray(table.answers_QV, dtype=np.float64), np.asarray(table.right_QV, dtype=np.float64)
    if votes < 1:
        raise ValueError(f"votes = {votes}: one at least")
    if scheme not in ("width", "unique"):
        raise ValueError(f"scheme {scheme!r}: shares of votes have few values; use width or unique")
    if not len(p_QV):
        return Floor(np.empty(0))
    silent = list(table.never_wins)
    values = []
    for size in _chunks(repeats, p_QV.size):
        counts = rng.multinomial(votes, p_QV, size=(size, len(p_QV)))
        score = counts + rng.random(counts.shape) / 2  # ties at random
        score[..., silent] = -1
        winner = score.argmax(axis=2)
        share = np.take_along_axis(counts, winner[..., None], axis=2)[..., 0] / votes
        share = np.where(np.isin(winner, silent), 0.0, share)
        correct = np.where(share > 0, right[np.arange(len(p_QV)), winner], 0.0)  # without a vote nobody wins
        if draw_labels:
            correct = (rng.random(correct.shape) < correct).astype(np.float64)
        values += [ece(share[r], correct[r], bins, scheme) for r in range(size)]
    return Floor(np.array(values))


def observed_answers(answers: Sequence[Sequence[str | None]]) -> AnswerTable:
    """Makes the table of :func:`votes_floor` from the votes themselves.

    [ours] The perfect model's distribution of a question is the observed one, and each answer is right as often as it
    is given (which is what calibration means), no answer never. Observed shares are more extreme than the probabilities
    behind them, which makes this floor somewhat too low for few votes. Column 0 is "no answer". Raises ValueError for a
    question without samples.
    """
    tables: list[dict[str, int]] = []
    for found in answers:
        counts: dict[str, int] = {}
        for answer in found:
            if answer is not None:
                counts[answer] = counts.get(answer, 0) + 1
        if not len(found):
            raise ValueError(f"question {len(tables)}: no samples")
        tables.append(counts)
    width = 1 + max((len(counts) for counts in tables), default=0)
    p_QV: NDArray[np.float64] = np.zeros((len(tables), width))
    for row, (counts, found) in enumerate(zip(tables, answers, strict=True)):
        p_QV[row, 1 : 1 + len(counts)] = np.array(list(counts.values())) / len(found)
        p_QV[row, 0] = max(0.0, 1 - p_QV[row, 1:].sum())
    right = p_QV.copy()
    right[:, 0] = 0
    return AnswerTable(p_QV, right, (0,))


def _chunks(repeats: int, cells: int) -> list[int]:
    """Splits ``repeats`` into parts of _CELLS numbers at most."""
    size = max(1, _CELLS // max(1, cells))
    return [min(size, repeats - begin) for begin in range(0, repeats, size)]
