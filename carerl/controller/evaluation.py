"""Evaluation in the loop: the task's suites, sampled with settings and a seed of their own.

Training is not touched by it: evaluating more or less often changes no rollout and no weight.
"""

from __future__ import annotations

import time
from dataclasses import asdict

from carerl.algorithms.batching import pack_rows
from carerl.controller.context import Context
from carerl.report import write_evaluation
from carerl.tasks import Evaluation, Suite
from carerl.types import Group, Sampling


def evaluate(context: Context, step: int, questions: int) -> dict[str, float]:
    """Samples, grades and scores every suite (its first ``questions`` ones; 0: all), writes the evaluation
    into the run directory, logs it at ``step`` and returns its metrics."""
    begin = time.perf_counter()
    context.display.stage("evaluate")
    config, crew, task = context.config, context.crew, context.task
    assert crew.rollout is not None and crew.grading is not None
    results: dict[str, list[Group]] = {}
    primary: list[Group] = []
    for number, suite in enumerate(task.suites()):
        sampling = _sampling(context, suite, number)
        examples = suite.examples[:questions] if questions else suite.examples
        graded = crew.grading.grade(crew.rollout.generate(examples, sampling))
        crew.grading.check(graded)
        results[suite.name] = graded
        if suite.primary:
            primary = graded
    scored = task.score(results)
    metrics = {**scored.metrics, **policy_statistics(context, primary)}
    write_evaluation(
        context.run.evaluations,
        step,
        Evaluation(metrics, scored.reliability, scored.rows),
        asdict(config.evaluation),
    )
    context.trackers.log(step, {**metrics, "time/evaluate": time.perf_counter() - begin})
    context.display.evaluation(step, metrics)
    return metrics


def _sampling(context: Context, suite: Suite, number: int) -> Sampling:
    settings = context.config.evaluation
    return Sampling(
        n=settings.samples,
        temperature=settings.temperature,
        max_new_tokens=max(context.config.rollout.max_new_tokens, suite.max_new_tokens or 0),
        seed=settings.seed * 1000 + number,
        top_p=settings.top_p,
        top_k=settings.top_k,
        stop_ids=context.task.stop_ids,
    )


def policy_statistics(context: Context, groups: list[Group]) -> dict[str, float]:
    """``eval/entropy`` (nats, mean over response tokens) and ``eval/kl_per_sequence`` (reverse KL to the
    reference, nats, mean over responses) on the primary suite's own responses.

    The divergence at each visited prefix is exact over the vocabulary, not estimated from the token drawn.
    Both are those of the policy at temperature 1.
    """
    crew = context.crew
    assert crew.reference is not None
    few = context.config.evaluation.scored_samples
    pairs = [(g.example.prompt_ids, s.response_ids) for g in groups for s in g.samples[:few]]
    batch = pack_rows([prompt for prompt, _ in pairs], [response for _, response in pairs])
    streams = crew.reference.score(crew.put(batch), batch.rows, True)
    scores = crew.learner.score(batch, streams)
    tokens = max(1, batch.response_tokens)
    return {
        "eval/entropy": float(scores["entropy"].sum()) / tokens,
        "eval/kl_per_sequence": float(scores["rkl"].sum()) / batch.rows,
    }
