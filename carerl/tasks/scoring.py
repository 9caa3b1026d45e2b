"""Parts of :meth:`Task.evaluate` that several tasks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from carerl.types import Group, Outcome, Sample


def mean_surprise(groups: Sequence[Group]) -> float:
    """Averages -log p over the response tokens of all samples, in nats. At the sampling temperature this is an unbiased
    estimate of the policy's entropy per token."""
    logprobs = [lp for group in groups for sample in group.samples for lp in sample.rollout_logprobs]
    return -math.fsum(logprobs) / max(1, len(logprobs))


def unstated_share(samples: Sequence[Sample]) -> float:
    """Returns the share of responses that state no readable confidence, whether they have an answer or not."""
    return sum(sample.stated_confidence is None for sample in samples) / len(samples)


def f1_score(true_positive: int, false_positive: int, false_negative: int) -> float:
    """Computes F1; 0 when there is nothing to find and nothing was claimed."""
    total = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / total if total else 0.0


def question_row(suite: str, group: Group, majority: str | None, share: float, right: float) -> dict[str, Any]:
    """Makes a row of :attr:`Evaluation.rows`, with one count for each outcome. ``share``: the majority's share of all
    samples. ``right``: whether the majority is right, 0 or 1, or the known probability of that."""
    outcomes = [sample.outcome for sample in group.samples]
    return {
        "suite": suite,
        "example_id": group.example.id,
        "gold": group.example.gold,
        "majority": majority,
        "confidence": share,
        "right": right,
        "samples": len(outcomes),
        **{str(outcome): outcomes.count(outcome) for outcome in Outcome},
    }
