"""Computes the learning rate as a pure function of the step, so that resuming needs no state."""

from __future__ import annotations

import math

from carerl.config.schema import LearnerConfig


def learning_rate(step: float, total: int, config: LearnerConfig) -> float:
    """Returns the rate of ``step`` (1 … ``total``, or between two of them): linear warm-up to ``lr``, then the
    schedule's decay to ``final_fraction * lr``, reached at the last step."""
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


def changed_schedule(done: int, before: int, total: int, config: LearnerConfig) -> str:
    """Returns a notice for a run that is resumed after step ``done`` with ``total`` steps instead of ``before``: the
    old and new rate of the first step to come whose rate changes. Returns '' if none changes."""

    def old(step: int) -> float | None:
        """Returns the rate that a step had before; None beyond the last one."""
        return learning_rate(step, before, config) if step <= before else None

    if before == total or config.schedule.name == "constant":
        return ""
    differing = (step for step in range(done + 1, total + 1) if old(step) != learning_rate(step, total, config))
    if (first := next(differing, None)) is None:
        return ""
    text = f"learning rate: the schedule now covers {total} steps, and covered {before} before: "
    new, last = learning_rate(first, total, config), old(first - 1) if first > 1 else None
    text += f"it is {new:.2g}" if last is None else f"it goes from {last:.2g} in step {first - 1} to {new:.2g}"
    if (was := old(first)) is None:
        return f"{text} in step {first}, where it had ended"
    return f"{text} in step {first}, where it would have been {was:.2g}"
