"""Holds the few numbers that the loop carries from step to step; every checkpoint has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from carerl.config.schema import RunConfig
from carerl.loss.adaptive import adapted_beta, adapted_entropy_bonus
from carerl.loss.objective import Strengths


@dataclass
class LoopState:
    """Holds the loop's numbers. ``position``: the next training prompt. ``informative``: running share of informative
    groups, which predicts how many prompts the next step must draw. ``beta``, ``entropy_bonus``: of the next step."""

    position: int
    informative: float
    beta: float
    entropy_bonus: float

    @classmethod
    def after(cls, config: RunConfig, step: int, state: Mapping[str, Any]) -> LoopState:
        """Returns the loop's state after ``step``, from a checkpoint's ``state``. What that lacks, as in a fresh run,
        follows from the settings. The first ``prompts_per_step`` positions belong to the parity probe."""
        loop = cls(
            position=(step + 1) * config.prompts_per_step,
            informative=1.0,
            beta=getattr(config.regularizer, "beta", 0.0),
            entropy_bonus=getattr(config.algorithm, "entropy_bonus", 0.0),
        )
        return replace(loop, **state.get("loop", {}))

    @property
    def strengths(self) -> Strengths:
        return Strengths(self.beta, self.entropy_bonus)

    def adapt(self, config: RunConfig, metrics: Mapping[str, float]) -> dict[str, float]:
        """Adapts the strengths to what a step measured. Returns the strengths of the step itself, as metrics."""
        used: dict[str, float] = {}
        if self.beta > 0:
            used["regularizer/beta"] = self.beta
        if self.entropy_bonus > 0 or _entropy_target(config):
            used["train/entropy_bonus"] = self.entropy_bonus
        # Sampled, the reported estimate of the reverse KL shrinks with the entropy; the plain mean has no such bias.
        measure = "reverse_kl" if getattr(config.regularizer, "estimator", "") == "full" else "log_ratio"
        if (target := _beta_target(config)) and (measured := metrics.get(f"regularizer/{measure}")) is not None:
            self.beta = adapted_beta(self.beta, measured, target, config.regularizer.beta_gain)
        if (target := _entropy_target(config)) and (measured := metrics.get("train/entropy")) is not None:
            step = config.algorithm.entropy_step
            self.entropy_bonus = adapted_entropy_bonus(self.entropy_bonus, measured, target, step)
        return used


def _beta_target(config: RunConfig) -> float:
    return float(getattr(config.regularizer, "target_kl", 0.0))


def _entropy_target(config: RunConfig) -> float:
    return float(getattr(config.algorithm, "entropy_target", 0.0))
