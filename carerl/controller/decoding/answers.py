"""Answers an evaluation's questions by each method: draws, grades, elects, and stores a question as it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from carerl.actors.crew import EvaluationCrew
from carerl.backends.recorder import span
from carerl.controller.decoding.drawing import Drawing, Drawn
from carerl.controller.decoding.idle import idle
from carerl.controller.decoding.learning import Progress, thresholds
from carerl.controller.decoding.plan import Plan
from carerl.controller.grade_tally import GradeTally
from carerl.inference.election import elected
from carerl.inference.methods import METHODS
from carerl.runs.decoded import Answered, DecodedStore
from carerl.tasks import Suite
from carerl.types import Example, Group, Outcome, Sample

Found = dict[str, dict[str, list[Answered]]]  # suite -> method -> its questions, in order


def decode(
    crew: EvaluationCrew,
    plan: Plan,
    store: DecodedStore,
    evaluations: Path,
    begin: Callable[[str], Progress],
    say: Callable[[str], None] = print,
) -> Found:
    """Answers the questions of each suite by each method. What the store has already is not asked again; what it was
    given keeps no tokens here.

    ``begin`` is called with what begins, and returns what is called with the questions that ended: first with those of
    the store, then after each round. That returns False to stop: then fewer are returned. Thresholds are learned once,
    and kept in ``evaluations``.
    """
    found: Found = {}
    learned = thresholds(crew.engines, plan, evaluations, begin, say)
    if learned is None:
        return found
    for suite in plan.suites:
        for method in plan.config.decode.methods:
            progress = begin(f"{suite.name} · {method}")
            answered, whole = answer(crew, plan, suite, method, learned.get(method, 0.0), store, progress, say)
            found.setdefault(suite.name, {})[method] = answered
            if not whole:
                return found
    return found


def answer(
    crew: EvaluationCrew,
    plan: Plan,
    suite: Suite,
    method: str,
    threshold: float,
    store: DecodedStore,
    progress: Progress,
    say: Callable[[str], None] = print,
) -> tuple[list[Answered], bool]:
    """Answers a suite's questions by one method. Returns those that ended, in order, and whether they are all.

    As many questions are under way as keep the engines busy; another begins as one ends."""
    ended = store.finished(suite.name, method, suite.examples)
    go_on = progress(list(ended.values()))
    waiting = deque(number for number in range(len(suite.examples)) if number not in ended)
    top = plan.decode.top if METHODS[method].reads_spreads else 0
    drawing = Drawing(crew.engines, plan, plan.context(suite, 0).max_new_tokens, top)
    tally = GradeTally(
        crew.graders, plan.config.grading.max_invalid, lambda text: say(f"{suite.name}, {method}: {text}")
    )
    while go_on and (waiting or drawing):
        while waiting and drawing.open < plan.room:
            number = waiting.popleft()
            context = plan.context(suite, number, threshold)
            drawing.begin(number, suite.examples[number].prompt_ids, METHODS[method].build(context))
        with span("generate"):
            drawn = drawing.advance()
        with span("reward"):
            new, groups = _elected(crew, plan, suite, method, drawn)
        tally.add(groups)
        for number, answered in new.items():
            store.add(suite.name, method, number, suite.examples[number], answered)
            ended[number] = answered.without_tokens()
        go_on = progress([ended[number] for number in new])
    drawing.end(cancel=not go_on)
    if go_on:
        tally.check()
    whole = len(ended) == len(suite.examples)
    if whole and (nothing := idle(method, list(ended.values()), plan)):
        say(f"{suite.name}, {method}: {nothing}")
    return [ended[number] for number in sorted(ended)], whole


def _elected(
    crew: EvaluationCrew, plan: Plan, suite: Suite, method: str, drawn: Sequence[Drawn]
) -> tuple[dict[int, Answered], list[Group]]:
    """Grades the branches that may vote, and elects. Returns the questions by number, and what was graded.

    The branches of a question are graded together, so that equivalent answers are one. A pruned branch is not graded:
    it has no vote, and ends in the middle of a sentence."""
    if not drawn:
        return {}, []
    asked = [_group(suite.examples[one.number], one, crew.engines.version) for one in drawn]
    groups = crew.graders.grade(asked)
    rule = METHODS[method].rule(plan.decode)
    found = {}
    for one, group in zip(drawn, groups, strict=True):
        voters = iter(group.samples)
        samples = [None if branch.pruned else next(voters) for branch in one.decoded.branches]
        result = elected(one.decoded, [None if s is None else s.answer for s in samples], rule)
        outcomes: list[Outcome | None] = [None if s is None else s.outcome for s in samples]
        answerable = all(sample.answerable for sample in group.samples)
        found[one.number] = Answered(group.example.id, result, tuple(outcomes), rule, one.seconds, answerable)
    return found, groups


def _group(example: Example, one: Drawn, version: int) -> Group:
    """Makes the group of a question's branches that may vote."""
    voters = [branch for branch in one.decoded.branches if not branch.pruned]
    samples = [Sample(example.id, branch.token_ids, (), branch.truncated, (version, version)) for branch in voters]
    return Group(example, samples)
