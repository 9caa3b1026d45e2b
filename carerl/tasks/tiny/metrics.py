"""The metrics of the tiny world, as :mod:`.evaluation` makes them, and what its suites are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carerl.calibration import Estimate
from carerl.metrics import At, Metric

from ..base import VALIDATION
from ..estimates import f1_interval
from .grading import ABSTENTION

FACTS, UNKNOWABLE = "facts", "unknowable"  # suites
SUITES: dict[str, str] = {
    "q2": "questions of 2 steps",
    "q3": "questions of 3 steps",
    "q4": "questions of 4 steps",
    FACTS: "FACTS",
    "answer": "FACTS, answer token",
    UNKNOWABLE: "UNKNOWABLE",
}


def recognition_interval(rows: Sequence[Mapping[str, Any]]) -> Estimate:
    """Returns F1 of "?" majorities as the sign of an unknowable name, over facts and unknowable names."""
    names = [row for suite in (FACTS, UNKNOWABLE) for row in rows if row["suite"] == suite]
    return f1_interval([row.get("majority") == ABSTENTION for row in names], [row["suite"] != FACTS for row in names])


def suite_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the metrics with plain names would be called by their suites. ``settings``: the task's."""
    trained = f"q{settings.get('train_k')}"
    return {
        "eval/accuracy": f"eval/{trained}/accuracy",
        "eval/maj": f"eval/{trained}/maj",
        "calibration/question_ece": f"calibration/{trained}/ece",
        "calibration/facts_ece": f"calibration/{FACTS}/ece",
    }


def trained_suites(settings: Mapping[str, Any]) -> frozenset[str]:
    """Returns the suites of questions with as many steps as the training questions. ``settings``: the task's."""
    return frozenset({f"q{settings.get('train_k')}", VALIDATION})


# Of a world with noisy golds, as :mod:`.decisions` makes them.
_DECISIONS = (
    Metric(
        "eval/{suite}/right_traces",
        "share",
        "decisions whose trace ends in the true answer",
        label="{suite}: right traces",
        short="right tr.",
        better=+1,
    ),
    Metric(
        "eval/{suite}/trace_followed",
        "share",
        "decisions whose likeliest option is what the trace ends in",
        label="{suite}: trace followed",
        short="followed",
        shown={"evaluation": At(0, "likeliest option is the trace's result")},
    ),
    Metric(
        "calibration/{suite}/right_trace_ece",
        "share",
        "ECE of the true answer's probability against the known one, over right traces, bins of equal count",
        label="{suite}: ECE on right traces",
        short="ECE right",
        better=-1,
        biased=True,
        shown={
            "suites": At(5),
            "evaluation": At(0, "ECE on right traces, truth known"),
            "workspace/decisions": At(4),
        },
    ),
    Metric(
        "calibration/{suite}/right_trace_gap",
        "share",
        "mean distance of the true answer's probability from the known one, over right traces",
        label="{suite}: gap on right traces",
        short="gap right",
        better=-1,
        shown={"evaluation": At(0, "distance from the known probability"), "workspace/decisions": At(5)},
    ),
    Metric(
        "calibration/{suite}/eta_{n}",
        "share",
        "mean probability of the true answer over right traces, where the first digit is n",
        shown={"parts/eta": At()},
    ),
    Metric(
        "calibration/{suite}/decision_eta_{n}",
        "share",
        "mean probability of the decision, where the first digit is n",
        shown={"parts/eta": At()},
    ),
)

METRICS = (
    *_DECISIONS,
    Metric(
        "eval/accuracy_k{n}",
        "share",
        "right samples, of questions of so many steps",
        label="accuracy, {n} steps",
        short="acc k{n}",
        better=+1,
        shown={"summary": At(1), "workspace/evaluations": At()},
    ),
    Metric(
        "calibration/facts_ece",
        "share",
        "ECE of the votes against the facts' true probabilities",
        label="FACTS ECE",
        better=-1,
        biased=True,
        note="FACTS: facts with known true answer probabilities; ECE of the votes against them.",
        shown={
            "headline": At(2),
            "summary": At(2),
            "ece": At(2),
            "gap": At(),
            "verdict": At(2),
            "sweep": At(2, "ECE"),
            "frontier": At(1),
            "curves/ece": At(1, "FACTS"),
            "workspace/calibration": At(1),
        },
    ),
    Metric(
        "calibration/facts_ece_floor",
        "share",
        "facts ECE of a perfect model with as many votes",
        label="FACTS ECE, perfect model",
        short="floor",
        note="Perfect model: knows those probabilities; its ECE comes from having few votes.",
        shown={
            "summary": At(2),
            "floors": At(0, "FACTS ECE"),
            "reference/ece": At(0, "FACTS, perfect model"),
            "workspace/calibration": At(1),
        },
    ),
    Metric(
        "calibration/answer_ece",
        "share",
        "facts ECE with the answer token's probability as confidence",
        label="answer ECE",
        short="ans. ECE",
        better=-1,
        biased=True,
        note="Answer ECE: FACTS, with the probability of the answer's token as confidence.",
        shown={
            "headline": At(2),
            "summary": At(2),
            "ece": At(4),
            "frontier": At(3),
            "curves/ece": At(2, "answer token"),
            "workspace/calibration": At(2),
        },
    ),
    Metric(
        "calibration/unknowable_f1",
        "share",
        "F1 of saying that a made-up name is unknown",
        label="UNKNOWABLE F1",
        short="UNKN. F1",
        better=+1,
        note='UNKNOWABLE: made-up names, where "?" is right; F1 of saying "?".',
        estimate=recognition_interval,
        shown={
            "headline": At(4),
            "summary": At(4),
            "abstention": At(),
            "verdict": At(3),
            "sweep": At(3, "F1"),
            "frontier": At(2),
            "curves/f1": At(),
            "workspace/calibration": At(4),
        },
    ),
)
