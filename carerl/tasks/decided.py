"""The decisions of graded samples: their probabilities, and whether they are right.

A sample is decided if the engines were asked for its options' probabilities
(:attr:`~carerl.types.Sample.option_probs`). Its decision is the option that it names. Its likeliest option is what
greedy decoding would name after the same trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carerl.types import Group, Sample

INNER_EDGES = (*(k / 10 for k in range(1, 10)), 0.99)  # of the histogram; its last bin is the paper's "p > .99"
BINS = len(INNER_EDGES) + 1
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decided:
    """Holds decided samples, (N,) each, group by group. ``right`` and ``argmax_right``: whether the option is right, 0
    or 1, or the known probability that it is."""

    questions: tuple[str, ...]
    """The example's id of each sample: samples of one question are one cluster."""

    probability: FloatArray
    """The probability of the option that the sample names."""

    right: FloatArray

    argmax: FloatArray
    """The probability of the likeliest option."""

    argmax_right: FloatArray

    def __len__(self) -> int:
        return len(self.questions)


def decided(groups: Sequence[Group], truth: Callable[[Group, str], float] | None = None) -> Decided:
    """Returns the decided samples of the groups. ``truth(group, label)``: the known probability that the option is
    right; None takes 1 for the options that the decision calls right, and 0 for others."""
    questions, named, likeliest = [], [], []
    for group in groups:
        for sample in group.samples:
            decision, first = sample.decision, sample.likeliest
            if decision is None or sample.answer_prob is None or first is None or sample.option_probs is None:
                continue
            rights = [
                float(label in decision.right) if truth is None else truth(group, label)
                for label in (decision.chosen, first)
            ]
            questions.append(group.example.id)
            named.append((sample.answer_prob, rights[0]))
            likeliest.append((max(sample.option_probs), rights[1]))
    named_N2, likeliest_N2 = (np.array(pairs, dtype=np.float64).reshape(-1, 2) for pairs in (named, likeliest))
    return Decided(tuple(questions), named_N2[:, 0], named_N2[:, 1], likeliest_N2[:, 0], likeliest_N2[:, 1])


def argmax_answer(sample: Sample) -> str | None:
    """Returns the label of a decided sample's likeliest option; the answer of any other sample."""
    return sample.answer if sample.likeliest is None else sample.likeliest


def argmax_correct(sample: Sample) -> bool:
    """Returns True if a decided sample's likeliest option is right; of any other sample, if it is correct as graded."""
    if sample.decision is None or sample.likeliest is None:
        return sample.correct
    return sample.likeliest in sample.decision.right


def histogram(probabilities: ArrayLike) -> list[float]:
    """Returns the share of the probabilities in each of eleven bins: [0, .1), [.1, .2) … [.9, .99), [.99, 1]. All are
    NaN without a probability.

    >>> histogram([0.05, 0.3, 0.98, 0.99])
    [0.25, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.25]
    """
    values = np.asarray(probabilities, dtype=np.float64)
    counts = np.bincount(np.searchsorted(INNER_EDGES, values, side="right"), minlength=BINS)
    return [float(count) / len(values) if len(values) else float("nan") for count in counts]
