r"""Computes what graded samples of text suites come to.

For each suite S, with N samples per question:

``eval/S/accuracy``
    Share of right samples (:attr:`carerl.types.Sample.correct`): outcome ``correct``, and at a question that nobody can
    answer ``abstained``.
``eval/S/maj``
    Share of questions whose majority answer is right. Votes: :mod:`~carerl.grading.votes`. A response without an answer
    counts in N and never wins. Answers come with their votes: nothing is compared here, whatever it may hold.
``eval/S/pass@N``
    Share of questions with a right sample. Where questions differ in N, of their smallest number, unbiased.
``eval/S/answered``
    Share of samples that have an answer to vote with, an abstention included. It belongs beside every figure of
    calibration: without an answer confidence is 0 and right is 0, so that silence looks calibrated.
``eval/S/unstated``
    Share of samples that state no confidence, where the prompt asks for one or any states one.
``eval/S/undecided``
    Share of samples that have an answer, but no token that names an option (:mod:`~carerl.grading.decision`), where any
    has one. Under ``answer_prob`` their confidence is 0.
``eval/S/argmax_accuracy``
    Share of samples that are right if the likeliest option takes the decision's place, after the same trace; samples
    without a decision count as graded. Where any sample has one. A calibrated decision that is sampled is wrong more
    often than the likeliest option.
``eval/S/sampled_entropy``
    Mean of -log p over response tokens, nats.
``eval/S/abstained``, ``wrong``, ``unparsed``, ``truncated``, ``invalid``
    Shares of the samples with that outcome. With ``correct`` they add up to 1.
``eval/S/too_long``
    Questions of S that were not asked, where there are any: prompt and answer together exceed the model's context
    (``rollout.max_model_len``). Every other figure is over the questions that were asked.
``eval/S/uncompared``
    Share of the samples whose wrong answer was not compared with another wrong one, as that took too long or too much:
    they vote apart, though they may mean the same.
``calibration/S/ece``, ``ece_debiased``, ``brier``, ``auroc`` … (:func:`carerl.calibration.measure`)
    Over questions: confidence is the majority's share of the N votes, and the majority is right or not.
    ``ece_floor_votes``: of a perfect model that is asked N times, were the observed shares its probabilities.
``calibration/S/mean_ece``, ``answer_prob_ece``, ``argmax_ece``, ``sequence_ece``, ``verbalized_ece`` …
    The same over samples, under the other estimators of confidence (:mod:`carerl.calibration.confidence`; what is
    measured: :func:`carerl.tasks.text_metrics.per_sample`);
    ``answer_prob`` and ``argmax`` where any response has a decision, ``verbalized`` where any states a confidence.
    ``answer_prob_ece_count``, with bins of equal count, is what arXiv 2601.13284 reports.
``calibration/S/decision_bin_0`` … ``decision_bin_10``
    Histogram of the probability of the decision, as shares of the samples that have one
    (:func:`carerl.tasks.decided.histogram`).

``eval/S/precision``, ``recall``, ``f1`` where S has questions that nobody can answer (SelfAware)
    Of recognising them: a question is called unanswerable if its majority abstains, and unanswerable is positive.
``eval/S/hallucination`` of ``truthfulqa`` and ``truthfulqa_2025``
    [ours] Share of the samples that assert something false: outcome ``wrong``, an option that is not the true one (or
    several options). Abstaining, and responses without an answer, are no hallucinations.

The primary suite's accuracy, maj and sampled_entropy also stand under ``eval/accuracy``, ``eval/maj`` and
``eval/sampled_entropy``, and its ECE under ``calibration/question_ece``. What is not defined (AUROC where all are
right) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from carerl.calibration import (
    Estimate,
    ReliabilityBin,
    judge_mean,
    judge_samples,
    majority,
    mean_interval,
    measure,
    observed_answers,
    pass_at_k,
    reliability_bins,
    sequence_confidence,
    share_interval,
)
from carerl.grading import Gold
from carerl.grading.votes import ABSTENTION
from carerl.tasks.benchmarks.truthfulqa import TRUTHFULQA
from carerl.types import Group, Outcome

from .base import ASKS_CONFIDENCE, Evaluation, check_graded
from .decided import argmax_answer, argmax_correct, decided, histogram
from .scoring import f1_score, mean_surprise, question_row, unstated_share, with_decisions
from .text_metrics import per_sample

TOO_LONG = "too_long"
HEADLINES = ("accuracy", "maj", "sampled_entropy")
HALLUCINATES = tuple(benchmark.name for benchmark in TRUTHFULQA)


def judge(suite: str, group: Group, seed: int) -> dict[str, Any]:
    """Returns the row of one question: that of :func:`~carerl.tasks.scoring.question_row`, its samples' ``answers``
    (votes) and ``rights`` (0 or 1), and ``answerable``."""
    gold: Gold = group.example.meta["gold"]
    answers = [sample.answer for sample in group.samples]
    rights = [int(sample.correct) for sample in group.samples]
    winner, share = majority(answers, group.example.id, seed)
    right = float(any(r for answer, r in zip(answers, rights, strict=True) if answer == winner and winner is not None))
    row = question_row(suite, group, winner, share, right)
    return row | {"answers": answers, "rights": rights, "answerable": gold.answerable}


def suite_metrics(suite: str, groups: Sequence[Group], rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Computes all metrics of one suite, under the names of the module's docstring. ``rows``: of :func:`judge`, one for
    each group."""
    samples = sum(row["samples"] for row in rows)
    rights = [right for row in rows for right in row["rights"]]
    questions = [row["example_id"] for row in rows for _ in row["rights"]]
    attempts, k = [row["samples"] for row in rows], min(row["samples"] for row in rows)
    solved = pass_at_k(attempts, [sum(row["rights"]) for row in rows], k)
    calibration = _calibration(groups, rows)
    found = {
        "accuracy": share_interval(rights, questions),
        "maj": calibration.pop("accuracy"),
        f"pass@{k}": mean_interval(solved),
        "answered": Estimate(sum(answer is not None for row in rows for answer in row["answers"]) / samples),
        "sampled_entropy": Estimate(mean_surprise(groups)),
        **{str(o): Estimate(sum(row[str(o)] for row in rows) / samples) for o in Outcome if o is not Outcome.CORRECT},
        "uncompared": Estimate(sum(_uncompared(group) for group in groups) / samples),
    }
    every = [sample for group in groups for sample in group.samples]
    if any(g.example.meta.get(ASKS_CONFIDENCE) for g in groups) or unstated_share(every) < 1:
        found["unstated"] = Estimate(unstated_share(every))
    if any(sample.answer_prob is not None for sample in every):
        given = [answer is not None for row in rows for answer in row["answers"]]
        undecided = sum(answered and s.answer_prob is None for answered, s in zip(given, every, strict=True))
        found["undecided"] = Estimate(undecided / samples)
        found["argmax_accuracy"] = share_interval([float(argmax_correct(sample)) for sample in every], questions)
    if any(not row["answerable"] for row in rows):
        found |= {name: Estimate(value) for name, value in recognition(rows).items()}
    if suite in HALLUCINATES:
        found["hallucination"] = found[str(Outcome.WRONG)]
    named = {f"eval/{suite}/{name}": estimate for name, estimate in found.items()}
    named |= {f"calibration/{suite}/{name}": estimate for name, estimate in calibration.items()}
    shares = histogram(decided(groups).probability)
    named |= {f"calibration/{suite}/decision_bin_{n}": Estimate(share) for n, share in enumerate(shares)}
    return {name: estimate for name, estimate in named.items() if math.isfinite(estimate.value)}


def _decision_rights(groups: Sequence[Group]) -> tuple[list[list[float]], list[list[float]]]:
    """Returns whether each sample is right, question by question, and whether it is with its likeliest option in the
    decision's place. Samples without a decision count as graded."""
    graded = [[float(sample.correct) for sample in group.samples] for group in groups]
    likeliest = [[float(argmax_correct(sample)) for sample in group.samples] for group in groups]
    return graded, likeliest


def _uncompared(group: Group) -> int:
    return sum(sample.outcome is Outcome.WRONG and bool(sample.reason) for sample in group.samples)


def _calibration(groups: Sequence[Group], rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Measures the majority's share over questions, and the other estimators over samples
    (:func:`~carerl.tasks.text_metrics.per_sample`)."""
    keys = [row["example_id"] for row in rows]
    answers = {key: row["answers"] for key, row in zip(keys, rows, strict=True)}
    correct = {key: [bool(right) for right in row["rights"]] for key, row in zip(keys, rows, strict=True)}
    attempts = {row["samples"] for row in rows}
    votes = attempts.pop() if len(attempts) == 1 else 0
    table = observed_answers([row["answers"] for row in rows])
    found = measure([row["confidence"] for row in rows], [row["right"] for row in rows], votes=votes, table=table)
    sequence = {
        key: [sequence_confidence(sample.rollout_logprobs) for sample in group.samples]
        for key, group in zip(keys, groups, strict=True)
    }
    stated = {key: [s.stated_confidence for s in group.samples] for key, group in zip(keys, groups, strict=True)}
    options = {key: [s.answer_prob for s in group.samples] for key, group in zip(keys, groups, strict=True)}
    likeliest = {key: [argmax_answer(s) for s in group.samples] for key, group in zip(keys, groups, strict=True)}
    argmax = {key: [argmax_correct(s) for s in group.samples] for key, group in zip(keys, groups, strict=True)}
    surest = {
        key: [max(s.option_probs) if s.option_probs else None for s in group.samples]
        for key, group in zip(keys, groups, strict=True)
    }
    judged = {"mean": judge_mean(answers, correct), "sequence": judge_samples(answers, correct, sequence)}
    for name, given in (("answer_prob", options), ("verbalized", stated)):
        if any(value is not None for values in given.values() for value in values):
            judged[name] = judge_samples(answers, correct, given)
    if "answer_prob" in judged:
        judged["argmax"] = judge_samples(likeliest, argmax, surest)
    for name, by in judged.items():
        each = measure(by.confidence, by.correct, by.questions, votes=by.votes, labels=by.labels)
        found |= {f"{name}_{metric}": each[metric] for metric in per_sample(name)}
    return found


def recognition(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Computes precision, recall and F1 of calling a question unanswerable, by majority; 0 where one is not defined."""
    called = [row["majority"] == ABSTENTION for row in rows]
    truth = [not row["answerable"] for row in rows]
    hits = sum(c and t for c, t in zip(called, truth, strict=True))
    return {
        "precision": hits / max(1, sum(called)),
        "recall": hits / max(1, sum(truth)),
        "f1": f1_score(hits, sum(called) - hits, sum(truth) - hits),
    }


def evaluate(results: Mapping[str, Sequence[Group]], primary: str, seed: int) -> Evaluation:
    """Computes metrics, a reliability diagram (under the suite's name) and rows for every suite in ``results`` that has
    groups. ``seed`` breaks ties between votes."""
    check_graded(results)
    estimates: dict[str, Estimate] = {}
    reliability: dict[str, list[ReliabilityBin]] = {}
    rows: list[dict[str, Any]] = []
    for suite, groups in results.items():
        if not groups:
            continue
        judged = [judge(suite, group, seed) for group in groups]
        found = suite_metrics(suite, groups, judged)
        if suite == primary:
            estimates |= {f"eval/{name}": found[f"eval/{suite}/{name}"] for name in HEADLINES}
            estimates["calibration/question_ece"] = found[f"calibration/{suite}/ece"]
        estimates |= found
        reliability[suite] = reliability_bins([row["confidence"] for row in judged], [row["right"] for row in judged])
        rows += with_decisions(judged, groups, *_decision_rights(groups))
    metrics = {name: estimate.value for name, estimate in estimates.items()}
    intervals = {name: (e.low, e.high) for name, e in estimates.items() if math.isfinite(e.low)}
    return Evaluation(metrics, reliability, rows, intervals)
