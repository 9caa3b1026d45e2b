"""How wrong a bfloat16 gradient is, its own rounding aside."""

from __future__ import annotations

from torch import Tensor


def gradient_excess(found: Tensor, exact: Tensor) -> float:
    """How far a bfloat16 gradient is from the exact one, beyond its own rounding to bfloat16 (at most 2⁻⁸ of each
    entry), as a share of the root mean square of all entries."""
    beyond = (found.to(exact.dtype) - exact).abs() - 2.0**-8 * exact.abs()
    return float(beyond.max() / exact.square().mean().sqrt())
