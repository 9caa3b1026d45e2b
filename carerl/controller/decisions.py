"""Finds the decisions of graded responses, and asks the engines how likely each option was there.

In an evaluation the engines are asked once a suite's responses have ended: one forward pass over each response up to
its decision, less what is in the engine's prefix cache. That is the confidence ``answer_prob``. In training they are
asked only where the reward is for the likeliest option (``decision.reward=argmax``). The token that decides is found by
grading variants of a response, like the response itself under the limits of :mod:`carerl.grading.pool`.

In a rehearsal (``coin_seed``) a response without a decision gets a tossed one (:mod:`carerl.tasks.coin_flips`): drawn
weights name no option, and nothing of the above would be rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from carerl.actors.crew import EvaluationCrew
from carerl.actors.handles.engines import Engines
from carerl.backends.engines.base import Query
from carerl.calibration import option_probability
from carerl.decisions import DecisionConfig
from carerl.grading import Verdict
from carerl.grading.pool import GraderPool, Job
from carerl.tasks import DecisionTask, Task, TextTask
from carerl.tasks.coin_flips import tossed_decision
from carerl.types import Decision, Example, Group, Outcome, Sample

AT_A_TIME = 64  # questions; an evaluation can be stopped after each such part

Grade = Callable[[list[Job]], list[Verdict]]


def answer_probabilities(
    engines: Engines,
    task: Task,
    groups: Mapping[int, Group],
    grade: Grade | None = None,
    coin_seed: int | None = None,
) -> Iterator[dict[int, Group]]:
    """Sets the option probabilities of all samples that have a decision and none yet. Yields the groups that were
    changed, in parts, as they are known. Nothing is being generated meanwhile. ``grade``: None makes a pool for this
    call."""
    if not isinstance(task, DecisionTask):
        return
    numbers = sorted(groups)
    with ExitStack() as closing:
        if grade is None:
            grade = closing.enter_context(GraderPool()).grade  # starts no process before its first job
        for start in range(0, len(numbers), AT_A_TIME):
            part = {number: groups[number] for number in numbers[start : start + AT_A_TIME]}
            changed = _weigh(engines, task, part, grade, coin_seed)
            if changed:
                yield changed


def find_decisions(task: DecisionTask, pairs: Sequence[tuple[Example, Sample]], grade: Grade) -> list[Decision | None]:
    """Returns the decision of each response, or None. Grades the variants of all responses together, round by round."""
    if not isinstance(task, TextTask):
        return [task.decision(example, sample) for example, sample in pairs]
    found: list[Decision | None] = [None] * len(pairs)
    searches = [task.decision_search(example, sample) for example, sample in pairs]
    verdicts: dict[int, Any] = dict.fromkeys(range(len(pairs)))  # what each search is sent next; None begins it
    while verdicts:
        asked: dict[int, str] = {}
        for k, verdict in verdicts.items():
            try:
                asked[k] = searches[k].send(verdict)
            except StopIteration as ended:
                found[k] = ended.value
        jobs = [
            Job(pairs[k][0].meta["grader"], text, pairs[k][0].meta["gold"], pairs[k][1].truncated)
            for k, text in asked.items()
        ]
        verdicts = dict(zip(asked, grade(jobs), strict=True)) if jobs else {}
    return found


def _weigh(
    engines: Engines, task: DecisionTask, groups: Mapping[int, Group], grade: Grade, coin_seed: int | None
) -> dict[int, Group]:
    """Sets decision and option probabilities of these groups' samples; returns the groups that were changed."""
    open_groups = {
        number: group for number, group in groups.items() if any(s.option_probs is None for s in group.samples)
    }
    _set_decisions(task, list(open_groups.values()), grade, coin_seed)
    found = {number: group for number, group in open_groups.items() if any(map(_is_open, group.samples))}
    _ask(engines, [(group.example, s) for group in found.values() for s in group.samples if _is_open(s)])
    return found


def _is_open(sample: Sample) -> bool:
    """Returns True for a sample whose decision nobody has weighed."""
    return sample.decision is not None and sample.option_probs is None


def _set_decisions(task: DecisionTask, groups: Sequence[Group], grade: Grade, coin_seed: int | None) -> None:
    """Finds the decisions of those samples of graded groups whose options were not weighed, in place."""
    open_samples = [
        (group.example, sample, number)
        for group in groups
        for number, sample in enumerate(group.samples)
        if sample.option_probs is None
    ]
    decisions = find_decisions(task, [(example, sample) for example, sample, _ in open_samples], grade)
    for (example, sample, number), decision in zip(open_samples, decisions, strict=True):
        sample.decision = decision
        if decision is None and coin_seed is not None:
            sample.decision = tossed_decision(sample, *task.options(example), coin_seed, number)


def _ask(engines: Engines, pairs: Sequence[tuple[Example, Sample]]) -> None:
    """Sets the option probabilities of samples that have a decision."""
    queries, decided = [], []
    for example, sample in pairs:
        assert sample.decision is not None
        before = sample.response_ids[: sample.decision.position]
        queries.append(Query((*example.prompt_ids, *before), tuple(sample.decision.token_ids.values())))
        decided.append((sample, sample.decision))
    for (sample, decision), logprobs in zip(decided, engines.next_logprobs(queries), strict=True):
        by_label = dict(zip(decision.token_ids, logprobs, strict=True))
        sample.option_probs = tuple(option_probability(by_label, label) for label in by_label)


def decide(
    crew: EvaluationCrew, task: Task, groups: list[Group], config: DecisionConfig, coin_seed: int | None = None
) -> list[Group]:
    """Sets the decisions of a step's graded groups, in place, where ``config`` needs them; returns the groups.

    With ``reward=argmax`` the reward becomes that of the same response with its likeliest option as the decision: an
    unlikely decision that was drawn says nothing about the trace before it. Outcome and answer stay those of what was
    sampled."""
    if not config.needed or not isinstance(task, DecisionTask):
        return groups
    _set_decisions(task, groups, crew.graders.verdicts, coin_seed)
    if config.reward == "argmax":
        _ask(crew.engines, [(group.example, s) for group in groups for s in group.samples if s.decision is not None])
        _reward_likeliest(crew, groups)
    return groups


def _reward_likeliest(crew: EvaluationCrew, groups: list[Group]) -> None:
    """Has the graders judge groups again in which a decision was not the likeliest option, and takes their rewards."""
    changed = [group for group in groups if any(_off(sample) for sample in group.samples)]
    variants = [Group(group.example, [_as_likeliest(sample) for sample in group.samples]) for group in changed]
    for group, judged in zip(changed, crew.graders.grade(variants) if variants else [], strict=True):
        for sample, variant in zip(group.samples, judged.samples, strict=True):
            sample.reward, sample.argmax_outcome = variant.reward, variant.outcome


def _off(sample: Sample) -> bool:
    return sample.decision is not None and sample.likeliest != sample.decision.chosen


def _as_likeliest(sample: Sample) -> Sample:
    """Returns the sample, not yet graded, with the likeliest option in the decision's place. The outcome is decided by
    that option: a response that repeats its decision would now name two, and no grader could tell which. A sample that
    stays as it is keeps its outcome: a grader that runs out of time now must not change it."""
    ids, decision = list(sample.response_ids), sample.decision
    outcome = sample.outcome
    if decision is not None and sample.likeliest is not None and _off(sample):
        ids[decision.position] = decision.token_ids[sample.likeliest]
        outcome = Outcome.CORRECT if sample.likeliest in decision.right else Outcome.WRONG
    made = Sample(sample.example_id, tuple(ids), sample.rollout_logprobs, sample.truncated, sample.versions)
    made.argmax_outcome = outcome
    return made
