"""1 for a correct response, 0 for everything else: the outcome reward of RL with verifiable rewards.

Where nobody can answer the question, abstaining is the correct response (:attr:`carerl.types.Sample.correct`).
"""

from __future__ import annotations

from dataclasses import dataclass

from carerl.types import Sample

from .base import RewardConfig


@dataclass
class CorrectConfig(RewardConfig):
    name: str = "correct"


def correct(sample: Sample) -> float:
    """Returns 1.0 or 0.0. Raises ValueError for a sample that was not graded, which is not the same as a wrong one."""
    if sample.outcome is None:
        raise ValueError(f"a sample of {sample.example_id} has not been graded")
    return 1.0 if sample.correct else 0.0
