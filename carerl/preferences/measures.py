"""Names the measures of the steps of responses, evaluated ones and a round's: whether their confidence tells right ones
from wrong ones.

Every step with a verdict counts. After the first wrong step of a response there is none. Equal steps of several
responses count each time: they are what a decoder meets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from carerl.calibration import step_measures
from carerl.preferences.records import Solution

EVAL = ("right", "entropy_gap")  # the others are of calibration
ROUND = {
    "auroc_entropy": "round/step_auroc_entropy",
    "auroc_peak": "round/step_auroc_peak",
    "auroc_perplexity": "round/step_auroc_perplexity",
    "entropy_gap": "round/step_entropy_gap",
    "brier": "round/step_brier",
    "ece": "round/step_ece",
}


def step_metrics(suite: str, solutions: Sequence[Solution], vocab: int) -> dict[str, float]:
    """Returns the metrics of a suite's steps; empty where none was judged. ``vocab``: V of the steps' confidences.

    A measure that needs both right and wrong steps is left out where one kind is missing.
    """
    return {_name(suite, kind): value for kind, value in _measured(solutions, vocab).items()}


def round_metrics(solutions: Sequence[Solution], vocab: int) -> dict[str, float]:
    """Returns the same of what was drawn in a round of preferences, whoever judged it. How many steps there are, and
    the share of right ones, are among the round's counts."""
    found = _measured(solutions, vocab).items()
    return {ROUND[kind]: value for kind, value in found if kind in ROUND}


def _measured(solutions: Sequence[Solution], vocab: int) -> dict[str, float]:
    """Returns the measures that have a value."""
    steps = [step for solution in solutions for step in solution.steps if step.right is not None]
    if not steps:
        return {}
    found = step_measures(
        [step.confidence for step in steps],
        [step.peak for step in steps],
        [step.logprob for step in steps],
        [step.end - step.start for step in steps],
        [step.right for step in steps if step.right is not None],
        vocab,
    )
    return {kind: value for kind, value in found.items() if math.isfinite(value)}


def _name(suite: str, kind: str) -> str:
    if kind == "steps":
        return f"eval/{suite}/steps"
    return f"{'eval' if kind in EVAL else 'calibration'}/{suite}/step_{kind}"
