"""Says in words what of a recipe takes part in its rehearsal."""

from __future__ import annotations

from carerl.config.schema import RunConfig


def parts(config: RunConfig, small: RunConfig, dropped: int) -> list[str]:
    """Returns what of the recipe takes part in a rehearsal. ``dropped``: prompts that are too long."""
    switched = (
        (config.decision.needed, f"decisions, tossed where no response has one ({config.decision.words})"),
        (small.evaluates, "evaluation"),
        (bool(small.tracking.rollouts_every) and not small.taught, "rollout tables"),
        (bool(small.checkpoint.best), "the best model"),
        (small.tracking.wandb != "off", f"W&B {small.tracking.wandb}"),
    )
    return [
        f"{config.task.name}: tokenizer, prompts ({dropped} dropped because too long) and graders",
        _learning(config),
        f"{small.rollout.engine} in {small.model.dtype}, the learner's passes in {small.learner.compute_dtype}",
        *(name for on, name in switched if on),
        "checkpoints, stop and resume, report",
    ]


def _learning(config: RunConfig) -> str:
    """Returns how the recipe learns, in words."""
    if config.taught:
        return "cross-entropy on the responses that the task teaches"
    regularizer = config.regularizer
    where = f" ({regularizer.estimator}, in the {regularizer.place})" if regularizer.name != "none" else ""
    return f"{config.algorithm.name} with {regularizer.name}{where}"
