"""Computes how likely each option was at the token that named one: the confidence ``answer_prob`` of an evaluation.

The engines are asked once a suite's responses have ended: one forward pass over each response up to its decision, less
what is in the engine's prefix cache. Training rollouts are not asked about. The token that decides is found by grading
variants of a response, like the response itself under the limits of :mod:`carerl.grading.pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from carerl.actors.handles.engines import Engines
from carerl.backends.engines.base import Query
from carerl.calibration import option_probability
from carerl.grading import Verdict
from carerl.grading.decision import Decision
from carerl.grading.pool import GraderPool, Job
from carerl.tasks import DecisionTask, Task, TextTask
from carerl.types import Example, Group, Sample

AT_A_TIME = 64  # questions; an evaluation can be stopped after each such part

Grade = Callable[[list[Job]], list[Verdict]]


def answer_probabilities(
    engines: Engines, task: Task, groups: Mapping[int, Group], grade: Grade | None = None
) -> Iterator[dict[int, Group]]:
    """Sets ``answer_prob`` of all samples that have a decision but no ``answer_prob`` yet. Yields the groups that were
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
            changed = _weigh(engines, task, part, grade)
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


def _weigh(engines: Engines, task: DecisionTask, groups: Mapping[int, Group], grade: Grade) -> dict[int, Group]:
    """Sets ``answer_prob`` of these groups' samples; returns the groups that were changed."""
    asked = [
        (number, group.example, sample)
        for number, group in groups.items()
        for sample in group.samples
        if sample.answer_prob is None
    ]
    decisions = find_decisions(task, [(example, sample) for _, example, sample in asked], grade)
    found = [(*one, decision) for one, decision in zip(asked, decisions, strict=True) if decision is not None]
    queries = [
        Query((*example.prompt_ids, *sample.response_ids[: decision.position]), tuple(decision.token_ids.values()))
        for _, example, sample, decision in found
    ]
    for (_, _, sample, decision), logprobs in zip(found, engines.next_logprobs(queries), strict=True):
        sample.answer_prob = option_probability(dict(zip(decision.token_ids, logprobs, strict=True)), decision.chosen)
    return {number: groups[number] for number, *_ in found}
