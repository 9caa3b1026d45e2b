"""Simulated models whose true metrics are known, for the coverage of intervals.

A question is right with probability p; the model states sigmoid(sharpness · logit p): calibrated at 1, overconfident
above. ``votes``: it states the share of N votes, each cast with that probability (of "right": a share below one half is
a model that doubts itself). ``clusters``: 8 samples of a question share p; each states it with noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]
Draw = tuple[FloatArray, FloatArray, NDArray[np.int64]]  # confidence, correct, questions
TRUTH_ITEMS = 1_000_000


@dataclass(frozen=True)
class World:
    right: tuple[float, float]  # of the beta distribution of p
    sharpness: float = 1.0
    votes: int = 0
    samples: int = 1

    def draw(self, rng: np.random.Generator, n: int) -> Draw:
        questions = n // self.samples
        p = np.repeat(rng.beta(*self.right, questions), self.samples)
        y = (rng.random(len(p)) < p).astype(np.float64)
        logit = self.sharpness * special.logit(np.clip(p, 1e-9, 1 - 1e-9))
        if self.samples > 1:
            logit = logit + rng.normal(0, 0.3, len(p))
        c = special.expit(logit)
        if self.votes:
            c = rng.binomial(self.votes, c) / self.votes
        return c, y, np.repeat(np.arange(questions), self.samples)

    @property
    def calibrated(self) -> bool:
        return self.sharpness == 1 and not self.votes and self.samples == 1

    def truth(self, metric: Callable[[FloatArray, FloatArray], float]) -> float:
        c, y, _ = self.draw(np.random.default_rng([77, 7]), TRUTH_ITEMS)
        return metric(c, y)


WORLDS = {
    "calibrated": World((5, 2)),
    "uniform": World((1, 1)),
    "overconfident": World((5, 2), sharpness=3),
    "slightly": World((5, 2), sharpness=1.3),
    "accurate": World((9, 1.5), sharpness=2),
    "votes": World((4, 1.5), votes=16),
    "overconfident votes": World((4, 1.5), sharpness=3, votes=16),
    "clusters": World((5, 2), sharpness=2, samples=8),
}


def coverage(
    world: World,
    interval: Callable[[FloatArray, FloatArray, NDArray[np.int64], int], tuple[float, float]],
    truth: float,
    n: int,
    repetitions: int,
    seed: int = 0,
) -> float:
    """Share of ``repetitions`` draws of n items whose interval holds the truth."""
    rng = np.random.default_rng([seed, n])
    hits = 0
    for repetition in range(repetitions):
        low, high = interval(*world.draw(rng, n), repetition)
        hits += low <= truth <= high
    return hits / repetitions
