"""Divergences of the policy from a frozen reference, one in each file, and the estimators that turn them into losses.

To add one, write a file with its ``Config``, its class and ``build``, and add a line to :data:`REGULARIZERS`.
"""

from __future__ import annotations

from carerl.regularizers import fkl, js, none, rkl, sfkl, srkl
from carerl.regularizers.base import Regularizer, RegularizerEntry
from carerl.regularizers.config import PLACES, PenaltyConfig, RegularizerConfig
from carerl.regularizers.estimators import ESTIMATORS, refusal, reward_shaping, token_loss

REGULARIZERS: dict[str, RegularizerEntry] = {
    "none": RegularizerEntry(none.NoneConfig, none.build, "no penalty"),
    "rkl": RegularizerEntry(rkl.RKLConfig, rkl.build, "reverse KL(policy ‖ reference): strict, unbounded"),
    "fkl": RegularizerEntry(fkl.FKLConfig, fkl.build, "forward KL(reference ‖ policy): covers the reference"),
    "sfkl": RegularizerEntry(sfkl.SFKLConfig, sfkl.build, "skew forward KL: forgetting pays a bounded price"),
    "js": RegularizerEntry(js.JSConfig, js.build, "Jensen–Shannon: at most log 2, symmetric"),
    "srkl": RegularizerEntry(
        srkl.SRKLConfig,
        srkl.build,
        "skew reverse KL (CARE-RFT): confidence pays a bounded price, forgetting an unbounded one",
    ),
}

__all__ = [
    "ESTIMATORS",
    "PLACES",
    "REGULARIZERS",
    "PenaltyConfig",
    "Regularizer",
    "RegularizerConfig",
    "RegularizerEntry",
    "refusal",
    "reward_shaping",
    "token_loss",
]
