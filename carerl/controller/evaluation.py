"""Evaluation: the task's suites, sampled with settings and a seed of their own, graded and scored.

In the loop, training is not touched by it: evaluating more or less often changes no rollout and no weight. The same
sampling serves ``python -m carerl.evaluate`` (:mod:`carerl.controller.evaluate_model`).
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace

from carerl.actors.crew import EvaluationCrew, TrainingCrew
from carerl.backends.recorder import span
from carerl.config.lengths import asked, new_tokens
from carerl.config.schema import RunConfig
from carerl.controller import best
from carerl.controller.context import Context
from carerl.controller.decisions import answer_probabilities
from carerl.controller.engine_queue import Rounds
from carerl.controller.preparation import stop_ids
from carerl.loss.batching import pack_rows
from carerl.runs.directory import RunDirectory
from carerl.runs.samples import SampleStore
from carerl.runs.tables import read_evaluations, write_evaluation
from carerl.seeds import derived_seed
from carerl.tasks import Evaluation, Suite, Task
from carerl.tasks.base import VALIDATION
from carerl.tasks.text_evaluation import TOO_LONG
from carerl.types import Group, Sampling

ROUNDS = 16  # of a response of full length: after each, what ended is graded and shown
SHORTEST_ROUND = 16  # tokens


def questions_due(config: RunConfig, step: int) -> int | None:
    """How many questions of each suite are asked after ``step`` (0: all); None where no evaluation is due."""
    settings = config.evaluation
    if step in (0, config.steps):
        return settings.questions if (settings.at_end if step else settings.at_start) else None
    return settings.questions_between if settings.every and step % settings.every == 0 else None


def evaluate_if_due(context: Context[TrainingCrew], step: int) -> None:
    """Samples, grades and scores the task's suites, writes the evaluation into the run directory, logs it at ``step``
    and keeps the model if it is the best so far; does nothing where no evaluation is due.

    A stop that is asked for meanwhile leaves it undone: the run that goes on from ``step`` begins with it."""
    config, questions = context.config, questions_due(context.config, step)
    if questions is None:
        return
    begin = time.perf_counter()
    context.display.stage("evaluate")
    store = None
    if config.evaluation.keep_samples:
        store = SampleStore(context.run.evaluations, step, context.tokenizer.decode, context.display.message)
    suites = chosen(config, context.task, questions, whole=(VALIDATION,) if config.checkpoint.best else ())
    results: dict[str, list[Group]] = {}
    for suite in suites:
        results[suite.name] = sample(
            context.crew, config, context.task, suite, store, lambda ended: not context.stop, context.display.message
        )
        if context.stop:
            return
    primary = [group for suite in suites if suite.primary for group in results[suite.name]]
    with span("score"):
        scored = score(context.task, suites, results)
    with span("statistics"):
        metrics = {**scored.metrics, **policy_statistics(context, primary)}
    with span("write"):
        write_evaluation(context.run.evaluations, step, replace(scored, metrics=metrics), asdict(config.evaluation))
        if store is not None:
            store.close()
    context.trackers.log(step, {**metrics, "time/evaluate": time.perf_counter() - begin})
    context.display.evaluation(step, metrics)
    if config.checkpoint.best:
        best.keep(context, step, metrics)


def chosen(config: RunConfig, task: Task, questions: int, whole: Collection[str] = ()) -> list[Suite]:
    """The task's suites, each with its first ``questions`` examples (0: all), those named in ``whole`` with all. Of
    these, examples that are too long to be asked are taken out and counted: no other takes their place."""
    suites = [
        suite if suite.name in whole or not questions else replace(suite, examples=suite.examples[:questions])
        for suite in task.suites()
    ]
    return [asked(config, suite) for suite in suites]


def score(task: Task, suites: Sequence[Suite], results: Mapping[str, Sequence[Group]]) -> Evaluation:
    """Returns what the task makes of graded samples, and beside it how many questions of each suite were too long to be
    asked, where any were."""
    scored = task.score(results)
    left_out = {f"eval/{suite.name}/{TOO_LONG}": float(suite.too_long) for suite in suites if suite.too_long}
    return replace(scored, metrics={**scored.metrics, **left_out})


def sample(
    crew: EvaluationCrew,
    config: RunConfig,
    task: Task,
    suite: Suite,
    store: SampleStore | None,
    progress: Callable[[list[Group]], bool] = lambda ended: True,
    say: Callable[[str], None] = print,
) -> list[Group]:
    """The graded groups of a suite in order, which ``store`` gets too.

    What the store has already is not sampled again. ``progress`` is told the groups that ended, those of the store
    first, then those of each round, be it none. It says whether to go on: if not, engines forget the rest, and fewer
    groups are returned.

    Everything is queued at once, so that only the last responses leave engines waiting. They work in rounds of a few
    tokens a sequence, and what ended in one is graded while the next is decoded."""
    sampling = _sampling(config, task, suite)
    ended = store.finished(suite.name, suite.examples) if store is not None else {}
    generation = crew.engines.start(sampling)
    go_on = progress(list(ended.values()))
    if go_on:
        with span("submit"):
            generation.submit({k: example for k, example in enumerate(suite.examples) if k not in ended})
    tokens = max(SHORTEST_ROUND, math.ceil(sampling.max_new_tokens / ROUNDS))
    rounds = Rounds(lambda: generation.advance(tokens))
    while go_on and generation.open:
        rounds.fill()
        with span("generate"):
            part = rounds.wait()
        graded: dict[int, Group] = {}
        if part:
            with span("reward"):
                graded = dict(zip(part, crew.graders.grade(list(part.values())), strict=True))
            ended |= graded
            if store is not None:
                with span("store"):
                    store.add(suite.name, graded)
        go_on = progress(list(graded.values()))  # also where nothing ended: long responses take many rounds
    rounds.drop()
    if not go_on:
        generation.cancel()
    for part in answer_probabilities(crew.engines, task, ended, crew.graders.verdicts) if go_on else ():
        if store is not None:
            store.add(suite.name, part)
        if not (go_on := progress([])):
            break
    groups = [ended[k] for k in sorted(ended)]
    if go_on and (warning := crew.graders.check(groups, config.grading.max_invalid)):
        say(f"{suite.name}: {warning}")
    return groups


def _sampling(config: RunConfig, task: Task, suite: Suite) -> Sampling:
    """The seed is the suite's own, by its name: what else is asked changes no sample of it."""
    settings = config.evaluation
    return Sampling(
        n=settings.samples,
        temperature=settings.temperature,
        max_new_tokens=new_tokens(config, suite),
        seed=derived_seed(settings.seed, zlib.crc32(suite.name.encode())),
        top_p=settings.top_p,
        top_k=settings.top_k,
        stop_ids=stop_ids(config, task),
    )


def policy_statistics(context: Context[TrainingCrew], groups: list[Group]) -> dict[str, float]:
    """``eval/entropy`` (nats, mean over response tokens) and ``eval/kl_per_sequence`` (reverse KL to the
    reference, nats, mean over responses) on the primary suite's own responses.

    The divergence at each visited prefix is exact over the vocabulary, not estimated from the token drawn.
    Both are those of the policy at temperature 1. Neither is there where no question was asked.
    """
    crew = context.crew
    few = context.config.evaluation.scored_samples
    pairs = [(g.example.prompt_ids, s.response_ids) for g in groups for s in g.samples[:few]]
    if not pairs:
        return {}
    batch = pack_rows([prompt for prompt, _ in pairs], [response for _, response in pairs])
    scores = crew.learner.score(crew.reference.score(crew.learner.hold(batch), hidden=True))
    tokens = max(1, batch.response_tokens)
    return {
        "eval/entropy": float(scores["entropy"].sum()) / tokens,
        "eval/kl_per_sequence": float(scores["rkl"].sum()) / batch.rows,
    }


def evaluated(run: RunDirectory, step: int) -> dict[str, float]:
    """Returns the metrics of the evaluation at a step, from the run directory; empty where there is none."""
    records = [record for record in read_evaluations(run.evaluations) if record["step"] == step]
    return dict(records[0]["metrics"]) if records else {}
