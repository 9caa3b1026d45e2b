"""Rewards: from a graded sample to a number. The outcome itself is never changed by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carerl.types import Sample

from .correct import CorrectConfig, correct


@dataclass(frozen=True)
class RewardEntry:
    """A line of the table: the Config dataclass, how to build the reward, one line for ``--help``."""

    config: type
    build: Callable[[Any], Callable[[Sample], float]]
    line: str


REWARDS: dict[str, RewardEntry] = {
    "correct": RewardEntry(CorrectConfig, lambda config: correct, "1 for a correct answer, else 0"),
}
