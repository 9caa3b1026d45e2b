"""1 for a correct answer, 0 for everything else: the outcome reward of RL with verifiable rewards."""

from __future__ import annotations

from dataclasses import dataclass

from carerl.types import Sample


@dataclass
class CorrectConfig:
    name: str = "correct"


def correct(sample: Sample) -> float:
    return 1.0 if sample.correct else 0.0
