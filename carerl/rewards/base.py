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

    def shorten(self, share: float) -> None:
        """Fits lengths among the settings to responses of ``share`` of the length that they were made for. A reward
        without such lengths changes nothing."""
