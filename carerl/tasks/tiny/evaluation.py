"""Computes what graded samples of the tiny suites come to.

Metrics, with N samples per question:

``eval/accuracy``, ``eval/accuracy_k2`` ...
    Share of right samples, of the trained k and of the other two (out of distribution).
``eval/maj``
    Share of questions of the trained k whose majority answer is right. A "?" majority is wrong. Responses
    without an answer count in N but never win.
``eval/sampled_entropy``
    Mean of -log p over the response tokens of the trained k, in nats: at the temperature of the sampling,
    an unbiased estimate of the policy's entropy per token.
``calibration/facts_ece``
    10 left-closed bins over the majority answer's share of the N votes ("?" votes and responses without an
    answer are in N), against the known probability that the answer is right, with which no labels need to
    be drawn. That truth leaves out "?" and is renormalised; a "?" majority is wrong (0).
``calibration/facts_ece_floor``
    The same figure for a perfect model with N votes, simulated: about .03 at N = 16.
``calibration/answer_ece``
    As ``facts_ece``, but the confidence is the probability with which the majority answer's token was sampled
    (mean over the samples that gave it): free of the noise of N votes, so it has no floor of that kind. What
    it has is .05 of every top probability, some .03 in all, that an exact model gives to "?" and the truth
    leaves out. Questions without any answer are left out (our choice).
``calibration/question_ece``
    ECE of the majority share on the trained k, in domain. In a world with noisy golds it is against the known
    probability that the majority is right, as for names; so are the reliability diagram and ``right`` of the question's
    row, which post-hoc calibration is judged by. It is fitted on validation questions, where drawn golds say what is
    right. ``eval/accuracy`` and ``eval/maj`` are against the true answer.
``calibration/unknowable_f1``
    F1 of "?" majorities as the sign of an unknowable name: the unknowable suite (held-out names) against the
    facts suite (known names), whose votes serve both metrics.
``eval/q3/argmax_accuracy``, ``calibration/q3/answer_prob_ece`` …
    Of decisions, in a world with noisy golds, see :mod:`.decisions`.
``eval/validation/accuracy``, ``maj``, ``answered``, ``truncated``, ``calibration/validation/ece``, ``brier`` …
    Of the validation suite, if there is one, under the names of a text suite
    (:mod:`~carerl.tasks.text_evaluation`): shares of samples, of majorities, of samples with an answer and of
    truncated ones, and :func:`carerl.calibration.measure` of the majority's share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from carerl.calibration import (
    AnswerTable,
    ReliabilityBin,
    answer_probability,
    ece,
    majority,
    measure,
    reliability_bins,
    votes_floor,
)
from carerl.grading.base import VOTED
from carerl.types import Group, Outcome

from ..base import VALIDATION, Evaluation, check_graded
from ..scoring import f1_score, mean_surprise, question_row
from .decisions import decision_metrics, known_chances, with_rights
from .grading import ABSTENTION, answer_position
from .world import STREAM_FLOOR, FloatArray, World, stream

FLOOR_REPEATS = 200


def vote(group: Group, seed: int) -> tuple[str | None, float]:
    """Returns the majority answer and its share of all N samples; (None, 0) if no sample has an answer."""
    answers = [sample.answer if sample.outcome in VOTED else None for sample in group.samples]
    return majority(answers, group.example.id, seed)


def truth_of(world: World, group: Group, answer: str | None) -> float:
    """Returns the known probability that ``answer`` is right for the entity of a facts group; 0 for "?" and for
    None."""
    if answer is None or answer == ABSTENTION:
        return 0.0
    return float(world.truth_EV[group.example.meta["entity"], int(answer)])


def mean_answer_probability(group: Group, answer: str | None) -> float | None:
    """Averages the probability with which the token of ``answer`` was sampled; None if no sample gave it."""
    probabilities = []
    for sample in group.samples:
        position = answer_position(sample.response_ids)
        if position is not None and sample.answer == answer:
            probabilities.append(answer_probability([sample.rollout_logprobs[position]]))
    return math.fsum(probabilities) / len(probabilities) if probabilities else None


def facts_floor(world: World, entities: Sequence[int], votes: int, repeats: int = FLOOR_REPEATS) -> float:
    """Simulates the mean facts ECE of a model that knows every distribution exactly and is asked ``votes`` times.

    It has its own random stream: (seed, "floor", votes).
    """
    index = np.asarray(entities, dtype=np.int64)
    truth_EV = np.concatenate([world.truth_EV, np.zeros((len(world.truth_EV), 1))], axis=1)  # "?" is never right
    rng = stream(world.seed, STREAM_FLOOR, votes)
    return votes_floor(AnswerTable(world.answers_EV[index], truth_EV[index]), votes, rng, repeats).mean


def evaluate(world: World, train_k: int, seed: int, results: Mapping[str, Sequence[Group]]) -> Evaluation:
    """Computes the metrics of the suites in ``results``; see the module's docstring. ``seed`` breaks ties."""
    check_graded(results)
    metrics: dict[str, float] = {}
    reliability: dict[str, list[ReliabilityBin]] = {}
    rows: list[dict[str, Any]] = []
    abstained: dict[str, int] = {}
    for suite, groups in results.items():
        if not groups:
            continue
        votes = [vote(group, seed) for group in groups]
        share = np.array([s for _, s in votes])
        facts = suite == "facts"
        if facts:
            right = np.array([truth_of(world, g, a) for g, (a, _) in zip(groups, votes, strict=True)])
        else:
            right = np.array([float(a == g.example.gold) for g, (a, _) in zip(groups, votes, strict=True)])
        metrics |= decision_metrics(suite, groups)
        abstained[suite] = sum(answer == ABSTENTION for answer, _ in votes)
        known = known_chances(suite, groups, [answer for answer, _ in votes])
        judged_by = right if known is None else known
        judged = [question_row(suite, g, a, s, float(r)) for g, (a, s), r in zip(groups, votes, judged_by, strict=True)]
        rows += with_rights(suite, judged, groups)
        if facts:
            metrics |= _facts_metrics(world, groups, votes, right)
            reliability["facts"] = reliability_bins(share, right)
        elif suite == f"q{train_k}":
            metrics["eval/accuracy"] = _accuracy(groups)
            metrics["eval/maj"] = float(right.mean())
            metrics["eval/sampled_entropy"] = mean_surprise(groups)
            metrics["calibration/question_ece"] = ece(share, judged_by)
            reliability[suite] = reliability_bins(share, judged_by)
        elif suite == VALIDATION:
            metrics |= _validation_metrics(groups, share, right)
            reliability[VALIDATION] = reliability_bins(share, right)
        elif suite.startswith("q"):
            metrics[f"eval/accuracy_k{suite[1:]}"] = _accuracy(groups)
    if "facts" in abstained and "unknowable" in abstained:
        found = abstained["unknowable"]
        metrics["calibration/unknowable_f1"] = f1_score(found, abstained["facts"], len(results["unknowable"]) - found)
    return Evaluation(metrics, reliability, rows)


def _accuracy(groups: Sequence[Group]) -> float:
    return float(np.mean([sample.correct for group in groups for sample in group.samples]))


def _validation_metrics(groups: Sequence[Group], share: FloatArray, right: FloatArray) -> dict[str, float]:
    """Names the metrics as for the validation suite of a text task."""
    outcomes = [sample.outcome for group in groups for sample in group.samples]
    found = {
        "eval/validation/accuracy": _accuracy(groups),
        "eval/validation/maj": float(right.mean()),
        "eval/validation/answered": float(np.mean([outcome in VOTED for outcome in outcomes])),
        "eval/validation/truncated": float(np.mean([outcome is Outcome.TRUNCATED for outcome in outcomes])),
    }
    measured = measure(share, right, votes=len(groups[0].samples))
    del measured["accuracy"]  # maj
    found |= {f"calibration/{VALIDATION}/{name}": estimate.value for name, estimate in measured.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _facts_metrics(
    world: World, groups: Sequence[Group], votes: Sequence[tuple[str | None, float]], right: FloatArray
) -> dict[str, float]:
    entities = [int(group.example.meta["entity"]) for group in groups]
    metrics = {
        "calibration/facts_ece": ece(np.array([share for _, share in votes]), right),
        "calibration/facts_ece_floor": facts_floor(world, entities, len(groups[0].samples)),
    }
    probabilities = [mean_answer_probability(g, answer) for g, (answer, _) in zip(groups, votes, strict=True)]
    answered = [i for i, probability in enumerate(probabilities) if probability is not None]
    if answered:
        confidence = np.array([probabilities[i] for i in answered], dtype=np.float64)
        metrics["calibration/answer_ece"] = ece(confidence, right[answered])
    return metrics
