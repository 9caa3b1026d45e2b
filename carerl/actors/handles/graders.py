"""The graders as a driver uses them: they grade responses, and the handle reports what could not be graded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carerl.actors.handles.base import Handle, shares
from carerl.actors.health.asking import Asker
from carerl.config.schema import RunConfig
from carerl.grading import Verdict
from carerl.grading.pool import Job
from carerl.text.printable import printable
from carerl.types import Group, Outcome, RunError


class GradingError(RunError):
    """The grader or the reward fails on everything."""


class Graders(Handle):
    """Sends responses to the actors that grade and reward them."""

    def __init__(self, actors: list[Any], ask: Asker | None = None) -> None:
        super().__init__(actors, ask)
        self._raised = ""
        self._told = 0.0  # the largest share of responses without a grade that was reported

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        """Starts loading on every actor, and forgets failures of an earlier run; returns what to wait for."""
        self._raised, self._told = "", 0.0
        return super().load(config, model_dir)

    def grade(self, groups: list[Group], blind: bool = False) -> list[Group]:
        """Returns the groups with outcomes, answers, confidences and rewards filled in. ``blind``: answers are read and
        compared without the gold ones, as an internal reward needs them."""
        parts = [actor.grade.remote(groups[part], blind) for actor, part in shares(self._actors, len(groups))]
        graded = []
        for part, raised in self._ask(parts, "reward"):
            graded += part
            self._raised = raised or self._raised
        return graded

    def verdicts(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Returns a verdict for each text, made under the limits of the graders' processes."""
        pending = [actor.verdicts.remote(list(jobs[part])) for actor, part in shares(self._actors, len(jobs))]
        return [verdict for part in self._ask(pending, "grade") for verdict in part]

    def check(self, groups: Sequence[Group], most: float = 1.0) -> str:
        """Returns a warning about responses that could not be graded; '' if there are none, or if a share as large was
        reported before. Such responses are trained on as wrong ones, or left out of an evaluation's figures.

        It is called with the groups of a whole step or suite, because a few prompts alone prove nothing. Raises
        GradingError if no response could be graded, or if their share is above ``most``."""
        samples = [sample for group in groups for sample in group.samples]
        invalid = sum(sample.outcome is Outcome.INVALID for sample in samples)
        return self.check_counts(invalid, len(samples), len(groups), most)

    def check_counts(self, invalid: int, responses: int, prompts: int, most: float = 1.0) -> str:
        """Does what :meth:`check` does, with counts: so many of the ``responses`` could not be graded."""
        if not invalid:
            return ""
        share = invalid / responses
        failure = f"the last failure: {printable(self._raised)}"
        if invalid == responses:
            raise GradingError(f"no response of {prompts} prompts could be graded; {failure}")
        text = f"{invalid} of {responses} responses could not be graded; {failure}"
        if share > most:
            raise GradingError(
                f"{text}\n  remedy: mend the grader or the reward. Such responses count as wrong; "
                f"grading.max_invalid={most:g} is the largest share that is accepted"
            )
        if share < 2 * self._told:
            return ""
        self._told = share
        return f"{text}; they count as wrong (a share above {most:g} ends the run: grading.max_invalid)"
