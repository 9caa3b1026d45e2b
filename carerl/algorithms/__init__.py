"""Policy-gradient algorithms as short presets over shared parts, and the objective that the learner sums.

``advantages``, ``surrogate`` and ``aggregation`` are the parts; ``batching`` fills the per-token streams of a
batch with them; ``token_statistics`` turns hidden states into log-probs, entropy and divergences a chunk at a
time; ``objective`` adds the components, each over its own global count; ``strata`` and ``coefficient_bins`` are what
metrics of tokens are split by.
"""

from __future__ import annotations

from .base import CORRECTIONS, UPDATES, Algorithm, AlgorithmConfig, AlgorithmEntry
from .dapo import DAPOConfig, dapo
from .dr_grpo import DrGRPOConfig, dr_grpo
from .grpo import GRPOConfig, grpo
from .gspo import GSPOConfig, gspo
from .reinforce_pp import ReinforcePPConfig, reinforce_pp
from .rloo import RLOOConfig, rloo

ALGORITHMS: dict[str, AlgorithmEntry] = {
    "grpo": AlgorithmEntry(GRPOConfig, grpo, "group-relative advantages, token-wise clipping"),
    "dapo": AlgorithmEntry(DAPOConfig, dapo, "GRPO with a higher upper clip, averaged over all tokens"),
    "gspo": AlgorithmEntry(GSPOConfig, gspo, "GRPO with one length-normalised ratio per sequence"),
    "dr_grpo": AlgorithmEntry(DrGRPOConfig, dr_grpo, "GRPO without dividing by spread or length"),
    "rloo": AlgorithmEntry(RLOOConfig, rloo, "leave-one-out baseline, summed over tokens"),
    "reinforce_pp": AlgorithmEntry(ReinforcePPConfig, reinforce_pp, "rewards normalised over the whole batch"),
}

__all__ = ["ALGORITHMS", "CORRECTIONS", "UPDATES", "Algorithm", "AlgorithmConfig", "AlgorithmEntry"]
