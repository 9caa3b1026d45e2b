"""How likely the options were at the token that named one: the confidence ``answer_prob`` of an evaluation's samples.

Asked of the engines when a suite's responses have ended, one forward pass over each response up to its decision (less
what the engine's prefix cache has of it). Training rollouts are not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carerl.actors.crew import Rollout
from carerl.backends.engines import Query
from carerl.calibration import option_probability
from carerl.tasks import DecisionTask, Task
from carerl.types import Group

AT_A_TIME = 64  # questions: between two of these an evaluation can be stopped


def answer_probabilities(rollout: Rollout, task: Task, groups: Mapping[int, Group]) -> Iterator[dict[int, Group]]:
    """Sets ``answer_prob`` of all samples that have a decision and not yet this; gives the groups that were changed, in
    parts, as they are known. Nothing is being generated meanwhile."""
    if not isinstance(task, DecisionTask):
        return
    numbers = sorted(groups)
    for start in range(0, len(numbers), AT_A_TIME):
        part = {number: groups[number] for number in numbers[start : start + AT_A_TIME]}
        changed = _weigh(rollout, task, part)
        if changed:
            yield changed


def _weigh(rollout: Rollout, task: DecisionTask, groups: Mapping[int, Group]) -> dict[int, Group]:
    found = [
        (number, group.example, sample, decision)
        for number, group in groups.items()
        for sample in group.samples
        if sample.answer_prob is None and (decision := task.decision(group.example, sample)) is not None
    ]
    queries = [
        Query((*example.prompt_ids, *sample.response_ids[: decision.position]), tuple(decision.token_ids.values()))
        for _, example, sample, decision in found
    ]
    for (_, _, sample, decision), logprobs in zip(found, rollout.next_logprobs(queries), strict=True):
        sample.answer_prob = option_probability(dict(zip(decision.token_ids, logprobs, strict=True)), decision.chosen)
    return {number: groups[number] for number, *_ in found}
