"""How far two results may be apart, and the largest distance that was seen."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-5
LARGEST: dict[str, float] = {}  # by what was compared, in order of its first comparison


def distance(ours: Tensor | float, theirs: Tensor | float) -> float:
    """The largest difference, relative to the peer's largest number."""
    a, b = torch.as_tensor(ours, dtype=torch.float64), torch.as_tensor(theirs, dtype=torch.float64)
    assert a.shape == b.shape
    assert bool(torch.isfinite(a).all() and torch.isfinite(b).all()) and float(b.abs().max()) > 0
    return float((a - b).abs().max() / b.abs().max())


def agree(what: str, ours: Tensor | float, theirs: Tensor | float) -> None:
    found = distance(ours, theirs)
    LARGEST[what] = max(found, LARGEST.get(what, 0.0))
    assert found <= TOLERANCE, f"{what}: relative difference {found:.2e}"
