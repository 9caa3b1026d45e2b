"""Rewards: a number for each graded sample. A reward never changes the outcome itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carerl.types import Sample

from .base import RewardConfig
from .correct import CorrectConfig, correct
from .shaped import FORMS, RLCRConfig, ShapedConfig, reads_text, shaped

Reward = Callable[[Sample, str], float]  # of a graded sample and its text


@dataclass(frozen=True)
class RewardEntry:
    """Holds one line of the table: the Config dataclass, the function that builds the reward, one line for ``--help``,
    and whether the reward reads a response's text (which is '' otherwise)."""

    config: type
    build: Callable[[Any], Reward]
    line: str
    reads_text: Callable[[Any], bool] = lambda config: False


REWARDS: dict[str, RewardEntry] = {
    "correct": RewardEntry(
        CorrectConfig, lambda config: lambda sample, text: correct(sample), "1 for a correct answer, else 0"
    ),
    "rlcr": RewardEntry(RLCRConfig, shaped, "correctness less the Brier score of the stated confidence", reads_text),
    "shaped": RewardEntry(
        ShapedConfig, shaped, "correctness, stated confidence, form and length, weighted", reads_text
    ),
}

__all__ = ["FORMS", "REWARDS", "Reward", "RewardConfig", "RewardEntry"]
