"""Policy-gradient algorithms as short presets over shared parts, and the objective that the learner sums.

``advantages``, ``surrogate`` and ``aggregation`` are the parts; ``batching`` fills the per-token streams of a
batch with them; ``token_statistics`` turns hidden states into log-probs, entropy and divergences a chunk at a
time; ``objective`` adds the components, each over its own global count.
"""

from __future__ import annotations

from .base import Algorithm, AlgorithmEntry
from .grpo import GRPOConfig, grpo

ALGORITHMS: dict[str, AlgorithmEntry] = {
    "grpo": AlgorithmEntry(GRPOConfig, grpo, "group-relative advantages, token-wise clipping"),
}

__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmEntry"]
