"""Measures how well the confidence of steps says which of them are right.

A step's ``right`` may be a share (of completions from its end that were right). AUROC needs two classes: a step counts
as right from one half on. Brier score and ECE take the share as it is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bins import ece
from .proper_scores import brier
from .ranking import auroc

MEASURES = ("auroc_entropy", "auroc_peak", "auroc_perplexity", "entropy_gap", "brier", "ece", "right", "steps")


def step_measures(
    confidence: ArrayLike, peak: ArrayLike, logprob: ArrayLike, tokens: ArrayLike, right: ArrayLike, vocab: int
) -> dict[str, float]:
    """Computes :data:`MEASURES` of N steps, (N,) each.

    ``confidence``: 1 − mean entropy / log ``vocab``. ``peak``: the mean probability of the likeliest token. ``logprob``
    (nats): the sum over the step's ``tokens``. ``right``: in [0, 1].

    ``auroc_…``: P(a right step is ranked above a wrong one) by confidence, by ``peak``, and by the inverse perplexity
    exp(logprob / tokens). ``entropy_gap``: mean entropy of wrong steps − of right ones, nats a token. ``brier``,
    ``ece``: of confidence as a forecast of ``right``. ``right``: its mean. NaN where a class is missing. Raises
    ValueError for unequal lengths and for values outside their ranges.
    """
    c, p, r = (np.asarray(x, dtype=np.float64) for x in (confidence, peak, right))
    lp, n = np.asarray(logprob, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if not c.shape == p.shape == r.shape == lp.shape == n.shape:
        raise ValueError(f"shapes differ: {c.shape}, {p.shape}, {lp.shape}, {n.shape}, {r.shape}")
    if not (np.all(n >= 1) and np.all(np.isfinite(lp))):
        raise ValueError("every step has a token, and log-probs are finite")
    correct = (r >= 0.5).astype(np.float64)
    entropy = (1 - c) * math.log(vocab)
    return {
        "auroc_entropy": auroc(c, correct),
        "auroc_peak": auroc(p, correct),
        "auroc_perplexity": auroc(np.exp(lp / n), correct),
        "entropy_gap": _mean(entropy[correct == 0]) - _mean(entropy[correct == 1]),
        "brier": brier(c, r),
        "ece": ece(c, r),
        "right": _mean(r),
        "steps": float(len(r)),
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
