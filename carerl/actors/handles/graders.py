"""Has responses graded, and says what could not be graded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carerl.actors.handles.base import shares
from carerl.actors.health.asking import Asker
from carerl.config.schema import RunConfig
from carerl.grading import Verdict
from carerl.grading.pool import Job
from carerl.text.printable import printable
from carerl.types import Group, Outcome, RunError


class GradingError(RunError):
    """The grader or the reward fails on everything."""


class Graders:
    def __init__(self, actors: list[Any], ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()
        self._raised = ""
        self._told = 0.0  # the largest share of responses without a grade that was told of

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        self._raised, self._told = "", 0.0  # of another run, in a sweep
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def grade(self, groups: list[Group]) -> list[Group]:
        """The groups with outcomes, answers, confidences and rewards filled in."""
        parts = [actor.grade.remote(groups[part]) for actor, part in shares(self._actors, len(groups))]
        graded = []
        for part, raised in self._ask(parts, "reward"):
            graded += part
            self._raised = raised or self._raised
        return graded

    def verdicts(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Verdicts on texts, under the limits of the graders' processes."""
        pending = [actor.verdicts.remote(list(jobs[part])) for actor, part in shares(self._actors, len(jobs))]
        return [verdict for part in self._ask(pending, "grade") for verdict in part]

    def check(self, groups: Sequence[Group], most: float = 1.0) -> str:
        """What to tell of graded responses that could not be graded, '' where it was told or there are none. They are
        trained on as wrong ones, or left out of an evaluation's figures: raises GradingError where their share is above
        ``most``, or all of them are. For a step's or a suite's groups, as a few prompts alone prove nothing."""
        samples = [sample for group in groups for sample in group.samples]
        invalid = sum(sample.outcome is Outcome.INVALID for sample in samples)
        if not invalid:
            return ""
        share = invalid / len(samples)
        failure = f"the last failure: {printable(self._raised)}"
        if invalid == len(samples):
            raise GradingError(f"no response of {len(groups)} prompts could be graded; {failure}")
        text = f"{invalid} of {len(samples)} responses could not be graded; {failure}"
        if share > most:
            raise GradingError(
                f"{text}\n  remedy: mend the grader or the reward; such responses count as wrong, and "
                f"grading.max_invalid={most:g} is the share that may"
            )
        if share < 2 * self._told:
            return ""
        self._told = share
        return f"{text}; they count as wrong (a share of more than {most:g} ends the run: grading.max_invalid)"
