"""Splits metrics of tokens: by outcome and confidence of the response, and by the size of the penalty's coefficient.

The confidence of a response is the share of its group's samples with the same answer, or 0 if it has no answer. Its
four bins are named by their lower ends in percent. A bin includes its lower end; the last also includes its upper end.
``wrong`` is every outcome but correct. A stratum without tokens in a step has no value in that step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from carerl.types import Sample

BINS = (0, 25, 50, 75)
OUTCOMES = ("right", "wrong")
STRATA = (*OUTCOMES, *(f"confidence_{low}" for low in BINS))


def strata(samples: Sequence[Sample]) -> Tensor | None:
    """Returns (B, M) bool in the order of ``STRATA``; None if a sample has no outcome or no confidence yet."""
    if any(sample.outcome is None or sample.confidence is None for sample in samples):
        return None
    right_B = torch.tensor([sample.correct for sample in samples], dtype=torch.bool)
    percent_B = torch.tensor([100 * (sample.confidence or 0.0) for sample in samples])
    bin_B = torch.bucketize(percent_B, torch.tensor(BINS[1:], dtype=torch.float32), right=True)
    return torch.stack([right_B, ~right_B, *(bin_B == k for k in range(len(BINS)))], dim=1)


# Histogram of the penalty's coefficient over sampled tokens, as shares that add up over micro-batches and ranks. The
# coefficient multiplies the gradient of a token's log-prob in the loss: above 0 the penalty lowers the token's
# probability, below 0 it raises it. Regularizers differ in its shape. The skew reverse KL's is bounded above
# (log(1/alpha) − 1 + alpha, .023 at alpha = .8) and not below; the reverse KL's has no bound at all. A mean of sizes
# does not show that, so the bins have signs. They are equally wide on a logarithmic scale outside ±.01.
EDGES = (-3.0, -1.0, -0.3, -0.1, -0.03, -0.01, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # a bin includes its lower edge


def _word(edge: float) -> str:
    return f"{'m' if edge < 0 else ''}{abs(edge):g}".replace(".", "_")


def _names() -> tuple[str, ...]:
    words = [_word(edge) for edge in EDGES]
    between = [f"{low}_to_{high}" for low, high in pairwise(words)]
    return tuple(f"{k:02d}_{name}" for k, name in enumerate([f"below_{words[0]}", *between, f"from_{words[-1]}"]))


#: Ends of metric names, in order: ``00_below_m3``, ``01_m3_to_m1``, …, ``12_from_3``. ``m`` stands for a minus sign and
#: ``_`` inside a number for the decimal point.
COEFFICIENT_BINS = _names()


def in_bins(coefficient_N: Tensor) -> Tensor:
    """Returns (K, N) bool: True at each token's bin. A token whose coefficient is NaN is in none."""
    edges = torch.tensor(EDGES, dtype=coefficient_N.dtype, device=coefficient_N.device)
    bin_N = torch.bucketize(coefficient_N.detach(), edges, right=True)
    bins_K = torch.arange(len(EDGES) + 1, device=coefficient_N.device)
    return (bin_N[None, :] == bins_K[:, None]) & ~coefficient_N.isnan()
