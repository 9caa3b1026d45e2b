"""Defines what the settings of every reward say to the rest of a run."""

from __future__ import annotations

from dataclasses import dataclass

from carerl.settings import Settings


@dataclass
class RewardConfig(Settings):
    """The settings of every reward."""

    name: str

    @property
    def text_setting(self) -> str:
        """The setting for which a response's text is read; '' where none is."""
        return ""

    @property
    def reads_confidence(self) -> bool:
        """True if the reward depends on the confidence that a response states."""
        return False

    @property
    def internal(self) -> bool:
        """True if the reward reads no gold answer: graders then find outcomes for metrics alone."""
        return False

    @property
    def scored(self) -> bool:
        """True if the reward needs the learner's certainty and entropy of every response."""
        return False

    def shorten(self, share: float) -> None:
        """Fits lengths among the settings to responses of ``share`` of the length that they were made for. A reward
        without such lengths changes nothing."""


@dataclass
class InternalConfig(RewardConfig):
    """The settings of a reward that reads no gold answer, see :mod:`carerl.rewards.internal`."""

    @property
    def internal(self) -> bool:
        return True
