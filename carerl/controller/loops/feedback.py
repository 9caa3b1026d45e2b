"""Has the learner judge what the policy has said: how sure it is of its tokens, and whether steps strengthen answers.

No gold answer reaches what is trained: outcomes are looked at for metrics alone. The scores are of the policy that
sampled: they are taken before the step's first update.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from carerl.actors.crew import TrainingCrew
from carerl.calibration.ranking import auroc
from carerl.config.schema import RunConfig
from carerl.controller.context import Context
from carerl.controller.rounds.scoring import token_scores
from carerl.distillation import (
    DistillationConfig,
    negligible,
    progressive_gain,
    support_places,
    total_gain,
    without_last,
)
from carerl.loss.packing import pack_rows
from carerl.records.splitting import Splitter
from carerl.rewards import internal_rewards
from carerl.seeds import derived_seed
from carerl.tasks import Task
from carerl.tasks.answers import AnswerSpan
from carerl.tasks.base import AnswersTask
from carerl.tasks.coin_flips import tossed_span
from carerl.types import Example, Group, Sample

Responses = Sequence[tuple[Example, Sample]]


def asks_itself(config: RunConfig) -> bool:
    """Returns True if a step has anything to score or reward after its responses are graded."""
    return bool(config.reward.internal or config.distillation.gains)


def feedback(
    context: Context[TrainingCrew], groups: Sequence[Group], number: int, splitter: Splitter | None = None
) -> dict[str, float]:
    """Fills in certainty, entropy, gain and internal reward of a step's samples, as far as the run needs them. Returns
    metrics of the gains. ``splitter``: what cuts responses into steps
    (:func:`~carerl.controller.rounds.scoring.splitter_of`), in a run with gains."""
    config, metrics = context.config, {}
    responses = [(group.example, sample) for group in groups for sample in group.samples]
    if config.reward.scored:
        _score(context, responses)
    if config.distillation.gains:
        assert splitter is not None
        metrics = _gain(context, responses, splitter)
    if config.reward.internal:
        internal_rewards(groups, config.reward, derived_seed(config.seed, number))
    return metrics


def _score(context: Context[TrainingCrew], responses: Responses) -> None:
    """Sets the mean certainty and the mean entropy over each response's tokens; None stays for one without tokens."""
    streams = token_scores(context.crew.learner, responses, context.config.rollout.temperature)
    for row, (_, sample) in enumerate(responses):
        if tokens := len(sample.response_ids):
            sample.certainty = float(streams["certainty"][row, :tokens].double().mean())
            sample.entropy = float(streams["entropy"][row, :tokens].double().mean())


@dataclass
class Scored:
    """Holds the supports of one response's answer, nats, in the order of its steps; empty where it has no answer."""

    sample: Sample
    supports: list[float] = field(default_factory=list)


def _gain(context: Context[TrainingCrew], responses: Responses, splitter: Splitter) -> dict[str, float]:
    """Sets the gain of each response that says an answer in tokens that can be found. Returns metrics."""
    settings = context.config.distillation
    scored = supports_of(context, responses, splitter)
    for one in scored:
        if one.supports:
            one.sample.gain = progressive_gain(_weighing(one, settings), least=settings.least)
    return gain_metrics(scored, settings)


def _weighing(one: Scored, settings: DistillationConfig) -> Sequence[float]:
    """Returns the supports that decide what a response weighs."""
    return one.supports if settings.last_step else without_last(one.supports)


def supports_of(context: Context[TrainingCrew], responses: Responses, splitter: Splitter) -> list[Scored]:
    """Has the learner score the answer of each response after its steps: after none, after the first, and so on. The
    answer's tokens and its mark are the response's own ids, never text that is encoded again."""
    config, task = context.config, context.task
    found = [Scored(sample) for _, sample in responses]
    prompts: list[tuple[int, ...]] = []
    answers: list[tuple[int, ...]] = []
    owners: list[Scored] = []
    for (example, sample), one in zip(responses, found, strict=True):
        ids, span = sample.response_ids, _span(config, task, example, sample)
        if span is None:
            continue
        for place in support_places(splitter.split(ids), span.mark, config.distillation.supports):
            prompts.append((*example.prompt_ids, *ids[:place], *ids[span.mark : span.start]))
            answers.append(tuple(ids[span.start : span.end]))
            owners.append(one)
    if not prompts:
        return found
    learner = context.crew.learner
    batch = pack_rows(prompts, answers, config.rollout.temperature)
    logprobs_BT = learner.log_probs(learner.hold(batch))["logprobs"]
    for row, (one, answer) in enumerate(zip(owners, answers, strict=True)):
        one.supports.append(float(logprobs_BT[row, : len(answer)].double().mean()))
    return found


def _span(config: RunConfig, task: Task, example: Example, sample: Sample) -> AnswerSpan | None:
    """Returns where a response says its answer; None for one that the grader read no answer from."""
    if config.coin_seed is not None:
        return tossed_span(sample.response_ids)
    assert isinstance(task, AnswersTask), "check_task has refused others"
    return None if sample.answer is None else task.answer_span(example, sample)


def gain_metrics(scored: Sequence[Scored], settings: DistillationConfig) -> dict[str, float]:
    """Returns what the gains of a step's responses are like, and how well they rank right answers above wrong ones; the
    latter, for which outcomes are read, is for people alone. Gains are those that weigh: negligible ones are 0, but for
    the ranking by ``gain/unfiltered``."""
    known = [one for one in scored if one.supports]
    metrics = {"gain/unknown": 1 - len(known) / max(len(scored), 1)}
    if not known:
        return metrics
    few = [negligible(_weighing(one, settings), settings.least) for one in known]
    metrics["gain/negligible"] = sum(few) / len(known)
    gain = functools.partial(progressive_gain, least=settings.least)
    ways: tuple[tuple[str, str, Callable[[Sequence[float]], float]], ...] = (
        ("gain/progressive", "gain/progressive_auroc", gain),
        ("gain/without_last", "gain/without_last_auroc", lambda own: gain(without_last(own))),
        ("gain/total", "gain/total_auroc", total_gain),
        ("", "gain/unfiltered_auroc", progressive_gain),
    )
    right = [float(one.sample.correct) for one in known]
    for name, ranks, of in ways:
        values = [of(one.supports) for one in known]
        if name:
            metrics[name] = math.fsum(values) / len(values)
        ranked = auroc([_as_share(value) for value in values], right)
        if math.isfinite(ranked):
            metrics[ranks] = ranked
    return metrics


def _as_share(value: float) -> float:
    """Maps a number to (0, 1) in the same order: a ranking needs no more."""
    return 0.5 + math.atan(value) / math.pi
