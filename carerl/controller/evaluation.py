"""Evaluates the task's suites: samples with settings and a seed of their own, grades and scores.

In a loop it does not affect training: evaluating more or less often changes no rollout and no weight. The same sampling
serves ``python -m carerl.evaluate`` (:mod:`carerl.controller.evaluate_model`).
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType

from carerl.actors.crew import EvaluationCrew, TrainingCrew
from carerl.backends.recorder import span
from carerl.calibration import Estimate
from carerl.config.lengths import asked, new_tokens
from carerl.config.load import read
from carerl.config.schema import RunConfig
from carerl.config.sweep import start_key
from carerl.controller import best
from carerl.controller.context import Context
from carerl.controller.decisions import answer_probabilities
from carerl.controller.engine_queue import Rounds
from carerl.controller.models import starting_weights
from carerl.controller.preparation import stop_ids
from carerl.controller.rounds.scoring import evaluated_steps
from carerl.controller.trace_swap import swap_traces
from carerl.errors import ConfigError
from carerl.loss.packing import pack_rows
from carerl.runs.directory import RunDirectory
from carerl.runs.samples import SampleStore
from carerl.runs.tables import copy_evaluation, evaluation_metrics, read_evaluations, write_evaluation
from carerl.seeds import derived_seed
from carerl.tasks import Evaluation, Suite, Task
from carerl.tasks.base import VALIDATION
from carerl.tasks.text_evaluation import TOO_LONG
from carerl.types import Group, Sampling

ROUNDS = 16  # rounds per response of full length; after each, what ended is graded and shown
SHORTEST_ROUND = 16  # tokens


def questions_due(config: RunConfig, step: int) -> int | None:
    """Returns how many questions of each suite are asked after ``step`` (0: all); None if no evaluation is due."""
    settings = config.evaluation
    if step in (0, config.steps):
        return settings.questions if (settings.at_end if step else settings.at_start) else None
    return settings.questions_between if settings.every and step % settings.every == 0 else None


def evaluate_if_due(context: Context[TrainingCrew], step: int) -> None:
    """Evaluates the model after ``step`` if an evaluation is due: samples, grades and scores the task's suites, writes
    the evaluation into the run directory, logs it, and keeps the model if it is the best so far. The evaluation of the
    model that the run starts from is a twin's, if one has made it.

    A stop that is asked for meanwhile leaves the evaluation undone: a run resumed from ``step`` begins with it."""
    config, questions = context.config, questions_due(context.config, step)
    if questions is None:
        return
    begin = time.perf_counter()
    context.display.stage("evaluate")
    metrics = (_of_twin(context) if step == 0 else {}) or _evaluated_now(context, step, questions)
    if not metrics:
        return
    context.trackers.log(step, {**metrics, "time/evaluate": time.perf_counter() - begin})
    context.display.evaluation(step, metrics)
    if config.checkpoint.best:
        best.keep(context, step, metrics)


def _of_twin(context: Context[TrainingCrew]) -> dict[str, float]:
    """Takes over the evaluation of the model that the run starts from. Returns its metrics; empty if no twin has made
    it, with these settings and from these weights."""
    for twin in map(RunDirectory, context.twins):
        metrics = evaluation_metrics(twin, 0)
        try:
            same = bool(metrics) and start_key(read(twin.config)) == start_key(context.config)
        except ConfigError:  # of an earlier version: what it was run with is not known
            same = False
        if same and starting_weights.same(twin.path, context.run.path):
            copy_evaluation(twin.evaluations, context.run.evaluations, 0)
            context.display.message(f"the model before training was evaluated by {twin.name}: its figures are taken")
            return metrics
    return {}


def _evaluated_now(context: Context[TrainingCrew], step: int, questions: int) -> dict[str, float]:
    """Evaluates the model, and writes the evaluation down. Returns its metrics; empty if a stop was asked for."""
    config = context.config
    store = None
    if config.evaluation.keep_samples:
        store = SampleStore(context.run.evaluations, step, context.tokenizer.decode, context.display.message)
    suites = chosen(config, context.task, questions, whole=(VALIDATION,) if config.checkpoint.best else ())
    results: dict[str, list[Group]] = {}
    swapped: dict[str, Estimate] = {}
    for suite in suites:
        results[suite.name] = sample(
            context.crew, config, context.task, suite, store, lambda ended: not context.stop, context.display.message
        )
        swapped |= swap_traces(
            context.crew.engines, config, context.task, suite.name, results[suite.name], lambda: not context.stop
        )
        if context.stop:
            return {}
    primary = {suite.name: results[suite.name] for suite in suites if suite.primary}
    with span("score"):
        scored = evaluate(context.task, suites, results, swapped)
    with span("statistics"):
        metrics = {**scored.metrics, **policy_statistics(context, primary)}
    with span("write"):
        write_evaluation(context.run.evaluations, step, replace(scored, metrics=metrics), asdict(config.evaluation))
        if store is not None:
            store.close()
    return metrics


def chosen(config: RunConfig, task: Task, questions: int, whole: Collection[str] = ()) -> list[Suite]:
    """Returns the task's suites, each with its first ``questions`` examples (0: all), suites named in ``whole`` with
    all. Then takes out examples that are too long to be asked, and counts them; they are not replaced."""
    suites = [
        suite if suite.name in whole or not questions else replace(suite, examples=suite.examples[:questions])
        for suite in task.suites()
    ]
    return [asked(config, suite) for suite in suites]


def evaluate(
    task: Task,
    suites: Sequence[Suite],
    results: Mapping[str, Sequence[Group]],
    swapped: Mapping[str, Estimate] = MappingProxyType({}),
) -> Evaluation:
    """Has the task score graded samples. Adds how many questions of each suite were too long to be asked, if any were,
    and what swapped traces showed."""
    scored = task.evaluate(results)
    more = {f"eval/{suite.name}/{TOO_LONG}": float(suite.too_long) for suite in suites if suite.too_long}
    more |= {name: estimate.value for name, estimate in swapped.items()}
    intervals = {name: (e.low, e.high) for name, e in swapped.items() if math.isfinite(e.low)}
    return replace(scored, metrics={**scored.metrics, **more}, intervals={**scored.intervals, **intervals})


def sample(
    crew: EvaluationCrew,
    config: RunConfig,
    task: Task,
    suite: Suite,
    store: SampleStore | None,
    progress: Callable[[list[Group]], bool] = lambda ended: True,
    say: Callable[[str], None] = print,
) -> list[Group]:
    """Samples and grades a suite; returns its groups in order, and adds them to ``store``.

    What the store has already is not sampled again. ``progress`` is called with groups that ended: first with those of
    the store, then after each round, even if none ended. It returns False to stop: then the engines forget the rest,
    and fewer groups are returned.

    All prompts are queued at once, so that only the last responses leave engines waiting. Engines work in rounds of a
    few tokens a sequence, and what ended in one round is graded while the next is decoded."""
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
        go_on = progress(list(graded.values()))  # even if nothing ended: long responses take many rounds
    rounds.drop()
    if not go_on:
        generation.cancel()
    weighing = answer_probabilities(crew.engines, task, ended, crew.graders.verdicts, config.coin_seed)
    for part in weighing if go_on else ():
        if store is not None:
            store.add(suite.name, part)
        if not (go_on := progress([])):
            break
    groups = [ended[k] for k in sorted(ended)]
    if go_on and (warning := crew.graders.check(groups, config.grading.max_invalid)):
        say(f"{suite.name}: {warning}")
    return groups


def _sampling(config: RunConfig, task: Task, suite: Suite) -> Sampling:
    """Returns the sampling settings of a suite. Its seed follows from its name: what else is asked changes no
    sample."""
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


def policy_statistics(context: Context[TrainingCrew], primary: Mapping[str, list[Group]]) -> dict[str, float]:
    """Returns ``eval/entropy`` (nats, mean over response tokens) and ``eval/kl_per_sequence`` (reverse KL to the
    reference, nats, mean over responses) on the primary suites' own responses. Where the task knows which steps are
    right, adds what confidence tells of them (:mod:`carerl.preferences.measures`).

    The divergence at each visited prefix is exact over the vocabulary, not estimated from the token drawn. Both are of
    the policy at temperature 1. Both are absent if no question was asked.
    """
    crew = context.crew
    few = context.config.evaluation.scored_samples
    groups = [group for own in primary.values() for group in own]
    pairs = [(g.example.prompt_ids, s.response_ids) for g in groups for s in g.samples[:few]]
    if not pairs:
        return {}
    batch = pack_rows([prompt for prompt, _ in pairs], [response for _, response in pairs])
    scores = crew.learner.log_probs(crew.reference.streams(crew.learner.hold(batch), hidden=True))
    tokens = max(1, batch.response_tokens)
    return {
        "eval/entropy": float(scores["entropy"].sum()) / tokens,
        "eval/kl_per_sequence": float(scores["rkl"].sum()) / batch.rows,
    } | evaluated_steps(context.task, next(iter(primary)), groups, few, scores)


def evaluated(run: RunDirectory, step: int) -> dict[str, float]:
    """Returns the metrics of the evaluation at a step, from the run directory; empty if there is none."""
    records = [record for record in read_evaluations(run.evaluations) if record["step"] == step]
    return dict(records[0]["metrics"]) if records else {}
