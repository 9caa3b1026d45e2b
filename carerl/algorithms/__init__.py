"""Policy-gradient algorithms, as short presets over three shared parts.

``advantages`` turns rewards into advantages, ``surrogate`` is the policy term of a token, and ``aggregation`` weighs
tokens and sequences. :mod:`carerl.loss` fills a batch with what an algorithm asks for, and computes and sums the loss.
"""

from __future__ import annotations

from .base import UPDATES, Algorithm, AlgorithmConfig, AlgorithmEntry
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

__all__ = ["ALGORITHMS", "UPDATES", "Algorithm", "AlgorithmConfig", "AlgorithmEntry"]
