"""What metrics of tokens are split by: whether the response is right, and how sure the policy was of its answer.

The confidence of a response is the share of its group's samples with the same answer (0 for one without an answer), in
four bins named by their lower ends in percent; each is closed below, the last on both sides. ``wrong`` is every outcome
but correct. A stratum without tokens in a step has no value in that step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carerl.types import Sample

BINS = (0, 25, 50, 75)
STRATA = ("right", "wrong", *(f"confidence_{low}" for low in BINS))


def strata(samples: Sequence[Sample]) -> Tensor | None:
    """(B, M) bool in the order of ``STRATA``; None if a sample has no outcome or no confidence yet."""
    if any(sample.outcome is None or sample.confidence is None for sample in samples):
        return None
    right_B = torch.tensor([sample.correct for sample in samples], dtype=torch.bool)
    percent_B = torch.tensor([100 * (sample.confidence or 0.0) for sample in samples])
    bin_B = torch.bucketize(percent_B, torch.tensor(BINS[1:], dtype=torch.float32), right=True)
    return torch.stack([right_B, ~right_B, *(bin_B == k for k in range(len(BINS)))], dim=1)
