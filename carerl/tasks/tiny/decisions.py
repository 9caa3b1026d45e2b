"""Measures decisions in a world whose golds are noisy, where P(an option is right) is known for every question.

A question's gold is another digit than the true one with probability eta. So the true answer is right with 1 − eta, and
every other digit with eta/9. S is the suite of the trained number of operators, or ``validation``: other questions have
no noise here. "?" and a response without an answer decide nothing, and are not right.

``eval/S/argmax_accuracy``
    Share of all samples whose likeliest option is the true answer, given the sampled trace.
``eval/S/right_traces``
    Share of decisions whose trace ends in the true answer.
``eval/S/trace_followed``
    Share of decisions whose likeliest option is the result that the trace ends in.
``calibration/S/answer_prob_ece``, ``answer_prob_ece_count``, ``argmax_ece`` …
    As of a text suite (:mod:`carerl.tasks.text_metrics`), against the known probabilities and not against drawn golds.
    Over all samples, as there: one without a decision has confidence 0 and is not right.
``calibration/S/decision_bin_0`` … ``decision_bin_10``
    As of a text suite, over decisions.
``calibration/S/right_trace_ece``
    ECE in equal-count bins of the true answer's probability against 1 − eta, over right traces.
``calibration/S/right_trace_gap``
    Mean of |probability of the true answer − (1 − eta)| over right traces. An ECE can be 0 for a model that gives every
    question the same probability; this cannot.
``calibration/S/eta_0`` … ``eta_9``
    Mean probability of the true answer over right traces of questions whose first digit is 0 … 9, eta being
    ``task.gold_noise`` times that digit.
``calibration/S/decision_eta_0`` … ``decision_eta_9``
    Mean probability of the decision, that is of the sampled option, over all decisions of such questions.

Validation questions are judged by their drawn golds, as outside of this world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from carerl.calibration import brier, ece
from carerl.types import Example, Group, Sample

from ..base import VALIDATION
from ..decided import argmax_answer, decided, histogram
from ..scoring import with_decisions
from . import tokenizer as tk
from .questions import ETA, TRUE
from .world import FloatArray

OTHERS = len(tk.DIGITS) - 1


def chance(group: Group, label: str) -> float:
    """Returns the known probability that an option is right."""
    eta = float(group.example.meta[ETA])
    return 1 - eta if label == group.example.meta[TRUE] else eta / OTHERS


def known_chances(suite: str, groups: Sequence[Group], answers: Sequence[str | None]) -> FloatArray | None:
    """Returns the known probability that each group's answer is right, 0 for "?" and None. Returns None for a suite
    whose golds have no noise, and for validation questions, whose drawn golds are all that a run may see."""
    if suite == VALIDATION or any(ETA not in group.example.meta for group in groups):
        return None
    pairs = zip(groups, answers, strict=True)
    return np.array([chance(group, answer) if answer in tk.DIGITS else 0.0 for group, answer in pairs])


def conclusion(sample: Sample) -> str | None:
    """Returns the result that the trace before the decision ends in; None if it ends in no digit."""
    assert sample.decision is not None
    before = sample.decision.position - 2  # between them stands the ``A`` that announces the answer
    token = sample.response_ids[before] if before >= 0 else tk.PAD
    return tk.TOKENS[token] if tk.DIGIT <= token < tk.LETTER else None


def with_rights(suite: str, rows: Sequence[Mapping[str, Any]], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Returns the rows of a suite's questions with the lists of :func:`~carerl.tasks.scoring.with_decisions`. Samples
    without a decision are not right."""

    def rights(group: Group, labels: Sequence[str | None]) -> list[float]:
        judge = _drawn if suite == VALIDATION else chance
        return [0.0 if label is None else judge(group, label) for label in labels]

    named = [rights(g, [s.decision.chosen if s.decision else None for s in g.samples]) for g in groups]
    return with_decisions(rows, groups, named, [rights(g, [s.likeliest for s in g.samples]) for g in groups])


def _drawn(group: Group, label: str) -> float:
    return float(label == group.example.gold)


def decision_metrics(suite: str, groups: Sequence[Group]) -> dict[str, float]:
    """Returns the metrics of the module's docstring; none where no sample's options were weighed."""
    known = suite != VALIDATION
    found = decided(groups, chance if known else None)
    if not len(found):
        return {}
    every = [(group, sample) for group in groups for sample in group.samples]
    metrics = {
        f"eval/{suite}/argmax_accuracy": float(np.mean([argmax_answer(s) == g.example.gold for g, s in every])),
        **{f"calibration/{suite}/decision_bin_{n}": x for n, x in enumerate(histogram(found.probability))},
    }
    silent = np.zeros(len(every) - len(found))  # confidence 0, and not right
    for name, confidences, rights in (
        ("answer_prob", found.probability, found.right),
        ("argmax", found.argmax, found.argmax_right),
    ):
        probability, right = np.concatenate([confidences, silent]), np.concatenate([rights, silent])
        metrics[f"calibration/{suite}/{name}_ece"] = ece(probability, right)
        metrics[f"calibration/{suite}/{name}_ece_count"] = ece(probability, right, scheme="count")
        metrics[f"calibration/{suite}/{name}_brier"] = brier(probability, right)
    return metrics | (_on_right_traces(suite, every) if known else {})


def _on_right_traces(suite: str, every: Sequence[tuple[Group, Sample]]) -> dict[str, float]:
    weighed = [(group.example, sample) for group, sample in every if sample.likeliest is not None]
    right = [conclusion(sample) == example.meta[TRUE] for example, sample in weighed]
    followed = [conclusion(sample) == sample.likeliest for _, sample in weighed]
    metrics = {
        f"eval/{suite}/right_traces": float(np.mean(right)),
        f"eval/{suite}/trace_followed": float(np.mean(followed)),
    }
    metrics |= _by_digit(f"calibration/{suite}/decision_eta", weighed, [s.answer_prob or 0.0 for _, s in weighed])
    kept = [pair for pair, is_right in zip(weighed, right, strict=True) if is_right]
    if not kept:
        return metrics
    probability = np.array([sample.by_option[example.meta[TRUE]] for example, sample in kept])
    truth = np.array([1 - float(example.meta[ETA]) for example, _ in kept])
    metrics[f"calibration/{suite}/right_trace_ece"] = ece(probability, truth, scheme="count")
    metrics[f"calibration/{suite}/right_trace_gap"] = float(np.abs(probability - truth).mean())
    return metrics | _by_digit(f"calibration/{suite}/eta", kept, probability.tolist())


def _by_digit(name: str, asked: Sequence[tuple[Example, Sample]], values: Sequence[float]) -> dict[str, float]:
    """Returns means of the values by the first digit of their questions."""
    first = np.array([example.prompt_ids[1] - tk.DIGIT for example, _ in asked])
    return {f"{name}_{n}": float(np.asarray(values)[first == n].mean()) for n in np.unique(first)}
