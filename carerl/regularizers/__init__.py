"""Divergences of the policy from a frozen reference, one a file, and the estimators that make losses of them.

To add one: a file with its ``Config``, its class and ``build``, and a line below.
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
