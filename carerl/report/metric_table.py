"""What a person reads for each metric: label, format, and which direction is good.

The keys are the names that every tracker logs. A metric without a line here is still logged; it is only
not shown in a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricLine:
    """``better``: +1 more is better, -1 less is better, 0 neither. ``digits``: decimals in tables. ``share``: values
    lie between 0 and 1."""

    label: str
    short: str
    better: int = 0
    digits: int = 3
    share: bool = False


METRIC_LINES: dict[str, MetricLine] = {
    "eval/accuracy": MetricLine("accuracy", "accuracy", +1, share=True),
    "eval/maj": MetricLine("maj@N", "maj@N", +1, share=True),
    "eval/accuracy_k2": MetricLine("accuracy, 2 steps", "acc k2", +1, share=True),
    "eval/accuracy_k4": MetricLine("accuracy, 4 steps", "acc k4", +1, share=True),
    "calibration/facts_ece": MetricLine("FACTS ECE", "FACTS ECE", -1, share=True),
    "calibration/facts_ece_floor": MetricLine("FACTS ECE, perfect model", "floor", share=True),
    "calibration/answer_ece": MetricLine("answer ECE", "ans. ECE", -1, share=True),
    "calibration/question_ece": MetricLine("question ECE", "quest. ECE", -1, share=True),
    "calibration/unknowable_f1": MetricLine("UNKNOWABLE F1", "UNKN. F1", +1, share=True),
    "eval/entropy": MetricLine("entropy (nats/token)", "entropy"),
    "eval/sampled_entropy": MetricLine("-log p of what was sampled (nats/token)", "-log p"),
    "eval/kl_per_sequence": MetricLine("KL to base (nats/sequence)", "KL/seq", 0, 2),
    "rollout/reward": MetricLine("reward", "reward", +1),
    "rollout/accuracy": MetricLine("rollout accuracy", "accuracy", +1),
    "regularizer/reverse_kl": MetricLine("divergence", "divergence"),
    "regularizer/beta": MetricLine("beta", "beta"),
    "train/entropy": MetricLine("entropy", "entropy"),
    "rollout/mismatch_mean": MetricLine("mismatch", "mismatch", 0, 6),
    "time/tokens_per_second": MetricLine("tokens/s", "tokens/s", 0, 0),
    "train/loss": MetricLine("loss", "loss", -1),
    "train/ce_loss": MetricLine("cross-entropy", "cross-ent.", -1),
    "train/grad_norm": MetricLine("gradient norm", "grad norm"),
    "train/lr": MetricLine("learning rate", "lr", 0, 6),
}

# a sentence under the tables for each label that does not explain itself
MEANINGS: dict[str, str] = {
    "calibration/facts_ece": "FACTS: facts with known true answer probabilities; ECE of the votes against them.",
    "calibration/facts_ece_floor": "Perfect model: knows those probabilities; its ECE comes from having few votes.",
    "calibration/answer_ece": "Answer ECE: FACTS, with the probability of the answer's token as confidence.",
    "calibration/question_ece": "Question ECE: the task's own questions, the votes against right or wrong.",
    "calibration/unknowable_f1": 'UNKNOWABLE: made-up names, where "?" is right; F1 of saying "?".',
}

# what displays and comparisons have room for; a run's own table shows every evaluation metric of METRIC_LINES
HEADLINE_METRICS: tuple[str, ...] = (
    "eval/accuracy",
    "eval/maj",
    "calibration/facts_ece",
    "calibration/answer_ece",
    "calibration/question_ece",
    "calibration/unknowable_f1",
    "eval/entropy",
    "eval/kl_per_sequence",
)

TIME_PARTS: tuple[str, ...] = ("generate", "reward", "reference", "train", "sync")


def metric_line(name: str) -> MetricLine:
    """The line of ``name``, or a plain one made from the name itself."""
    return METRIC_LINES.get(name) or MetricLine(name, name.rsplit("/", 1)[-1])


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Fixed decimals; an en dash for a value that is missing or not finite.

    >>> format_number(0.95142), format_number(None), format_number(-0.0306, sign=True)
    ('0.951', '–', '-0.031')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text.replace("-", "", 1) if float(text.replace(",", "")) == 0 and text.startswith("-") else text


def compact_number(value: float | None) -> str:
    """Three significant figures in little room, for a live display.

    >>> compact_number(0.8125), compact_number(1.2e-7), compact_number(18234.0), compact_number(0.0)
    ('0.812', '1.2e-07', '18,234', '0.000')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    if size >= 0.001 or size == 0:
        return f"{value:.3f}"
    return f"{value:.1e}"


def clock(seconds: float | None) -> str:
    """``h:mm:ss``, or ``m:ss`` under an hour.

    >>> clock(72.4), clock(3725), clock(None)
    ('1:12', '1:02:05', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
