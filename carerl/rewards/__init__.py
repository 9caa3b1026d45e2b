"""Rewards: a number for each graded sample. A reward never changes the outcome itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from carerl.types import Group, Sample

from .base import InternalConfig, RewardConfig
from .correct import CorrectConfig, correct
from .internal import (
    CertaintyConfig,
    EntropyConfig,
    GroupReward,
    MajorityConfig,
    SemanticConfig,
    agreements,
    certainties,
    majority_votes,
    negative_entropies,
)
from .shaped import FORMS, RLCRConfig, ShapedConfig, reads_text, shaped

Reward = Callable[[Sample, str], float]  # of a graded sample and its text


@dataclass(frozen=True)
class RewardEntry:
    """Holds one line of the table: the Config dataclass, the function that builds the reward, one line for ``--help``,
    and whether the reward reads a response's text (which is '' otherwise).

    An internal reward (``config.internal``) is one of a whole group: it has ``of_group`` for ``build``, which is None.
    """

    config: type
    build: Callable[[Any], Reward] | None
    line: str
    reads_text: Callable[[Any], bool] = lambda config: False
    of_group: Callable[[Any], GroupReward] | None = None


REWARDS: dict[str, RewardEntry] = {
    "correct": RewardEntry(
        CorrectConfig, lambda config: lambda sample, text: correct(sample), "1 for a correct answer, else 0"
    ),
    "rlcr": RewardEntry(RLCRConfig, shaped, "correctness less the Brier score of the stated confidence", reads_text),
    "shaped": RewardEntry(
        ShapedConfig, shaped, "correctness, stated confidence, form and length, weighted", reads_text
    ),
    "certainty": RewardEntry(
        CertaintyConfig, None, "internal: how far the policy is from uniform", of_group=lambda config: certainties
    ),
    "entropy": RewardEntry(
        EntropyConfig, None, "internal: minus the mean token entropy", of_group=lambda config: negative_entropies
    ),
    "majority": RewardEntry(
        MajorityConfig, None, "internal: 1 for the group's most frequent answer", of_group=lambda config: majority_votes
    ),
    "semantic": RewardEntry(
        SemanticConfig, None, "internal: the share of the group that agrees", of_group=lambda config: agreements
    ),
}


def internal_rewards(groups: Sequence[Group], config: RewardConfig, seed: int) -> None:
    """Sets the rewards of all samples by an internal reward, in place. ``seed``: of the step, for ties. Samples bring
    their answers, and certainty and entropy where ``config.scored``.

    Outcomes are not looked at: rewards are the same whatever the gold answers are. Raises ValueError if the reward is
    not internal, if a sample was not scored, and for a reward that is not finite."""
    of_group = REWARDS[config.name].of_group
    if of_group is None:
        raise ValueError(f"reward {config.name} is not internal: graders compute it")
    reward = of_group(config)
    for group in groups:
        for sample, value in zip(group.samples, reward(group, seed), strict=True):
            if not math.isfinite(value):
                raise ValueError(f"the reward {config.name} of a response to {group.example.id} is {value}")
            sample.reward = value


__all__ = [
    "FORMS",
    "REWARDS",
    "GroupReward",
    "InternalConfig",
    "Reward",
    "RewardConfig",
    "RewardEntry",
    "internal_rewards",
]
