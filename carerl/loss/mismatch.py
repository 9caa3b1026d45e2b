"""Weights tokens to correct for an engine that samples from another distribution than the learner computes.

w = exp(old − rollout): log-probs of the sampled token at the same weights, by the learner and by the engine.

=================  ===========================================================================================
``truncate``       min(w, cap) on every token (truncated importance sampling, F. Yao et al., 2025)
``mask``           w where 1/cap <= w <= cap, else 0: tokens on which the two disagree teach nothing
``sequence_mask``  min(w, cap) on responses whose geometric mean of w is in [1/cap, cap], 0 on the others
=================  ===========================================================================================

The geometric mean does not grow with the length of a response. The product would, and would reject long responses
because they are long. Masked tokens stay in the denominators: a component's scale must not depend on their number.
"""

from __future__ import annotations

from torch import Tensor

from carerl.algorithms.base import CORRECTIONS
from carerl.algorithms.surrogate import LOG_RATIO_LIMIT, row_means


def mismatch_weight(old_N: Tensor, rollout_N: Tensor, lengths_B: Tensor | None, cap: float, correction: str) -> Tensor:
    """Returns the weights (N,), detached, in [0, cap]. ``lengths_B``: tokens of each row, for ``sequence_mask``.

    Raises ValueError for an unknown correction, and for a mask with a cap below 1, which would keep nothing.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"mismatch_correction = {correction}: it must be one of {', '.join(CORRECTIONS)}")
    if correction != "truncate" and not cap >= 1:
        raise ValueError(f"mismatch_cap = {cap}: no weight lies in [1/cap, cap]")
    log_weight_N = (old_N - rollout_N).detach()
    weight_N = log_weight_N.clamp(max=LOG_RATIO_LIMIT).exp()
    if correction == "mask":
        return weight_N.masked_fill((weight_N < 1 / cap) | (weight_N > cap), 0.0)
    if correction == "sequence_mask":
        mean_N = row_means(log_weight_N, lengths_B).clamp(max=LOG_RATIO_LIMIT).exp()
        weight_N = weight_N.masked_fill((mean_N < 1 / cap) | (mean_N > cap), 0.0)
    return weight_N.clamp(max=cap)
