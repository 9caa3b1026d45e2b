"""Parts of :meth:`Task.evaluate` that several tasks share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def with_decisions(
    rows: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
    named: Sequence[Sequence[float | None]],
    likeliest: Sequence[Sequence[float | None]],
) -> list[dict[str, Any]]:
    """Returns the rows of one suite. If any sample has a decision, each row also has four lists over its samples.

    ``decision_probs`` are the probabilities of the named option and ``argmax_probs`` those of the likeliest, None
    without a decision. ``decision_rights`` and ``argmax_rights`` are ``named`` and ``likeliest``: whether that option
    is right, 0 or 1, or the known probability of that. A sample does not count where this is None, and has confidence
    0 where only its probability is."""
    if all(sample.answer_prob is None for group in groups for sample in group.samples):
        return [dict(row) for row in rows]
    return [
        {
            **row,
            "decision_probs": [sample.answer_prob for sample in group.samples],
            "decision_rights": list(of_named),
            "argmax_probs": [max(sample.option_probs) if sample.option_probs else None for sample in group.samples],
            "argmax_rights": list(of_likeliest),
        }
        for row, group, of_named, of_likeliest in zip(rows, groups, named, likeliest, strict=True)
    ]
