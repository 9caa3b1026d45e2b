"""The learning rate as a pure function of the step, so that resuming needs no state."""

from __future__ import annotations

import math

from carerl.config.schema import LearnerConfig


def learning_rate(step: int, total: int, config: LearnerConfig) -> float:
    """The rate of step 1 … ``total``: linear warm-up to ``lr``, then the schedule's decay to
    ``final_fraction * lr``, reached at the last step."""
    schedule, peak = config.schedule, config.optimizer.lr
    if step <= schedule.warmup_steps:
        return peak * step / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, total - schedule.warmup_steps)
    left = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[schedule.name]
    floor = 0.0 if schedule.name == "constant" else schedule.final_fraction
    return peak * (floor + (1.0 - floor) * left)
