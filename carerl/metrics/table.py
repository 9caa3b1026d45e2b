"""What a person reads for each metric: label, format, and which direction is good.

The keys are the names that every tracker logs. A metric without a line here is still logged; it is only
not shown in a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace


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

# Benchmarks in the order of tables. Their metrics are ``eval/<suite>/accuracy`` and so on: METRICS_OF_SUITES.
SUITE_LABELS: dict[str, str] = {
    "math500": "MATH-500",
    "math_test": "MATH test",
    "gsm8k": "GSM8K",
    "selfaware": "SelfAware",
    "truthfulqa": "TruthfulQA",
    "commonsenseqa": "CommonsenseQA",
    "openbookqa": "OpenBookQA",
    "aime24": "AIME 2024",
    "aime25": "AIME 2025",
    "amc23": "AMC 2023",
    "countdown": "Countdown",
}
TINY_SUITES: dict[str, str] = {
    "q2": "questions of 2 steps",
    "q3": "questions of 3 steps",
    "q4": "questions of 4 steps",
    "facts": "FACTS",
    "answer": "FACTS, answer token",
    "unknowable": "UNKNOWABLE",
}
METRICS_OF_SUITES: dict[str, MetricLine] = {  # ``{}``: the suite's label
    "eval/accuracy": MetricLine("{}", "{}", +1, share=True),
    "eval/maj": MetricLine("{} maj@N", "{} maj", +1, share=True),
    "eval/f1": MetricLine("{} F1", "{} F1", +1, share=True),
    "eval/hallucination": MetricLine("{} hallucination", "{} halluc.", -1, share=True),
    "calibration/ece": MetricLine("ECE {}", "ECE {}", -1, share=True),
    "eval/sampled_entropy": MetricLine("{} -log p (nats/token)", "{} -log p"),
    "eval/too_long": MetricLine("{} questions not asked: too long", "{} too long", digits=0),
}
# The columns of the CARE-RFT paper's table; of several names the first that there is.
PAPER_COLUMNS: tuple[tuple[str, ...], ...] = (
    ("eval/math500/accuracy", "eval/math_test/accuracy"),
    ("eval/gsm8k/accuracy",),
    ("eval/selfaware/f1",),
    ("eval/truthfulqa/accuracy",),
    ("calibration/truthfulqa/ece", *(f"calibration/{suite}/ece" for suite in SUITE_LABELS)),
)

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
    """The line of ``name``, one made from its benchmark's label, or a plain one made from the name itself.

    >>> metric_line("eval/math500/accuracy").label, metric_line("calibration/gsm8k/ece").label
    ('MATH-500', 'ECE GSM8K')
    """
    if name in METRIC_LINES:
        return METRIC_LINES[name]
    suite, metric = _suite_and_metric(name)
    line = METRICS_OF_SUITES.get(metric)
    if line is None:
        return MetricLine(name, name.rsplit("/", 1)[-1])
    label = suite_label(suite)
    return replace(line, label=line.label.format(label), short=line.short.format(label))


def suite_label(suite: str) -> str:
    return {**TINY_SUITES, **SUITE_LABELS}.get(suite, suite)


def paper_columns(names: Collection[str]) -> list[str]:
    """The columns of the paper's table that ``names`` have; empty unless one is of a text benchmark."""
    if not any(_suite_and_metric(name)[0] for name in names):
        return []
    chosen = (next((name for name in choice if name in names), None) for choice in PAPER_COLUMNS)
    return [name for name in chosen if name is not None]


def headline_columns(names: Collection[str]) -> list[str]:
    """What a comparison of runs with these metrics shows: the paper's columns and what else there is of text
    benchmarks, metric by metric; without any, :data:`HEADLINE_METRICS`."""
    paper = paper_columns(names)
    if not any(_suite_and_metric(name)[0] for name in names):
        return [name for name in HEADLINE_METRICS if name in names]
    order = list(METRICS_OF_SUITES)
    known = list(SUITE_LABELS)

    def place(name: str) -> tuple[int, int, str]:
        suite, metric = _suite_and_metric(name)
        return order.index(metric), known.index(suite) if suite in known else len(known), suite

    more = sorted((name for name in names if _suite_and_metric(name)[1] in order), key=place)
    whole = [name for name in ("eval/entropy", "eval/kl_per_sequence") if name in names]
    if "eval/entropy" in whole:  # the primary suite's under a plain name
        more = [name for name in more if not name.endswith("/entropy")]
    return [*paper, *(name for name in more if name not in paper), *whole]


def summary_rows(base: Mapping[str, float], final: Mapping[str, float]) -> list[tuple[str, float | None, float | None]]:
    """``(metric, before, after)`` for the evaluation metrics that either has, in the order of ``METRIC_LINES``,
    then those of text benchmarks."""
    names = [name for name in METRIC_LINES if name.startswith(("eval/", "calibration/"))]
    names += [name for name in headline_columns({**base, **final}) if name not in names]
    return [(name, base.get(name), final.get(name)) for name in names if name in base or name in final]


def accuracy_metric(columns: Iterable[str]) -> str:
    """The accuracy that a task reports first."""
    return next((name for name in columns if name.startswith("eval/") and name.endswith("/accuracy")), "eval/accuracy")


def ece_metric(columns: Collection[str]) -> str:
    """The calibration error that a task reports first."""
    of_suites = tuple(name for name in columns if re.fullmatch(r"calibration/[^/]+/ece", name))
    tiny = ("calibration/facts_ece", "calibration/question_ece", "calibration/answer_ece")
    return next((name for name in (*of_suites, *tiny) if name in columns), tiny[0])


def abstention_metric(columns: Collection[str]) -> str:
    """The F1 of saying that one does not know."""
    return "eval/selfaware/f1" if "eval/selfaware/f1" in columns else "calibration/unknowable_f1"


def _suite_and_metric(name: str) -> tuple[str, str]:
    """``eval/gsm8k/maj`` -> gsm8k, eval/maj; of a name without a benchmark both are empty."""
    parts = name.split("/")
    return (parts[1], f"{parts[0]}/{parts[2]}") if len(parts) == 3 else ("", "")


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
