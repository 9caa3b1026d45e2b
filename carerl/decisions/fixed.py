"""The probabilities at which a decision comes to rest under each target.

A prefix has K options, of which option c is right with probability q_c. The policy samples a decision, by its own
probabilities or the likeliest, and follows the expected gradient of the cross-entropy in its logits, Σ over decisions
of (target − p). :func:`flow` follows it from a given start. :func:`leader` has the closed forms where one option is
right with probability q and the others share the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .targets import CLAMPS, TARGETS, bound

FloatArray = NDArray[np.float64]


def flow(
    start_K: Sequence[float],
    q_K: Sequence[float],
    target: str,
    clamp: str = "uniform",
    greedy: bool = False,
    rate: float = 0.5,
    steps: int = 20_000,
) -> FloatArray:
    """Follows the expected gradient from the probabilities ``start_K``; returns those after ``steps`` steps of size
    ``rate``, (K,). ``greedy``: the likeliest decision is taken, not one sampled at temperature 1."""
    options = len(start_K)
    aims = [[TARGETS[target](chosen, {right}, options) for right in range(options)] for chosen in range(options)]
    aims_KKK = np.array([[aim.probabilities for aim in row] for row in aims])  # decision, right option, target
    bounds_KK = np.array([[bound(aim, clamp) for aim in row] for row in aims])
    z_K, q = np.log(np.asarray(start_K, dtype=np.float64)), np.asarray(q_K, dtype=np.float64)
    for _ in range(steps):
        p_K = _softmax(z_K)
        sampled_K = np.eye(options)[int(p_K.argmax())] if greedy else p_K
        weight_KK = sampled_K[:, None] * q[None, :] * (p_K[:, None] > bounds_KK)
        z_K = z_K + rate * (np.einsum("cr,crk->k", weight_KK, aims_KKK) - weight_KK.sum() * p_K)
    return _softmax(z_K)


def leader(q: float, options: int, target: str, clamp: str = "uniform") -> float:
    """Returns the probability at which the option comes to rest that is right with probability ``q`` and leads at the
    start. Decisions are sampled at temperature 1. Raises ValueError for an unknown target or clamp, and for a ``q``
    below 1/K: the lead of such an option may be lost on the way.

    Without a bound p_c ∝ 1/(1 − q_c), for ``paper`` and ``rest`` alike. With the bound on the wrong decisions' term, a
    sampled decision that does not lead is only ever pulled up, and adds (1 − q)/(K − 1) of pull. Nothing comes to rest
    below 1/K: there the option that led is only pulled up as well.

    >>> [round(leader(0.75, 10, "paper", clamp), 3) for clamp in ("off", "uniform", "both")]
    [0.302, 0.769, 0.775]
    """
    if target not in TARGETS or clamp not in CLAMPS:
        raise ValueError(f"target = {target}, clamp = {clamp}: use {', '.join(TARGETS)} and {', '.join(CLAMPS)}")
    if q < 1 / options:
        raise ValueError(f"q = {q} is less than 1/{options}: another option is right more often")
    other = (1 - q) / (options - 1)
    if target == "gold" or q == 1:
        return q
    if clamp == "off":
        return (1 / (1 - q)) / (1 / (1 - q) + (options - 1) / (1 - other))
    aimed = q + (1 - q) / options if target == "paper" else q
    return aimed if clamp == "both" else max(1 / options, (aimed - other) / (1 - other))


def _softmax(z_K: FloatArray) -> FloatArray:
    e_K = np.exp(z_K - z_K.max())
    return np.asarray(e_K / e_K.sum())
