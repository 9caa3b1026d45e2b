"""An entropy coefficient that follows a target."""

from __future__ import annotations


def adapted_entropy_bonus(coefficient: float, entropy: float, target: float, step: float) -> float:
    """The next coefficient: one ``step`` up while the measured token entropy (nats) is below ``target``, one down
    otherwise, never below 0 (Skywork-OR1, arXiv 2505.22312, adaptive entropy control).

    Departure: the coefficient stays on above the target until it has come down by itself; the paper switches it off.

    >>> adapted_entropy_bonus(0.01, entropy=0.2, target=0.3, step=0.005)
    0.015
    """
    return max(0.0, coefficient + step) if entropy < target else max(0.0, coefficient - step)
