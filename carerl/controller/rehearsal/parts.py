"""Says in words what of a recipe takes part in its rehearsal."""

from __future__ import annotations

from carerl.config.schema import RunConfig


def parts(config: RunConfig, small: RunConfig, dropped: int) -> list[str]:
    """Returns what of the recipe takes part in a rehearsal. ``dropped``: prompts that are too long."""
    switched = (
        (config.decision.needed, f"decisions, tossed where no response has one ({config.decision.words})"),
        (small.evaluates, "evaluation"),
        (small.prefers, "steps and pairs of each round"),
        (bool(small.tracking.rollouts_every) and not (small.taught or small.prefers), "rollout tables"),
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
    if config.prefers:
        p = config.preference
        labels = {"exact": "the task's labels", "monte_carlo": "completions of each step"}
        how = labels.get(p.label, "a second model, for which this one stands in") if p.judged else "the graders' labels"
        return f"{p.method} with {how}, tossed afterwards"
    if config.taught:
        return "cross-entropy on the responses that the task teaches"
    regularizer = config.regularizer
    where = f" ({regularizer.estimator}, in the {regularizer.place})" if regularizer.name != "none" else ""
    return f"{config.algorithm.name} with {regularizer.name}{where}"
