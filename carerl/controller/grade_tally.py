"""Counts what the graders could not grade, where groups are graded a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carerl.actors.handles.graders import Graders
from carerl.types import Group, Outcome

ENOUGH = 100  # responses from which on a share proves something


class GradeTally:
    """Adds up grades, and keeps no response. ``most``: the largest share of responses without a grade that is accepted
    (``grading.max_invalid``). ``say`` is called with warnings."""

    def __init__(self, graders: Graders, most: float, say: Callable[[str], None]) -> None:
        self._graders, self._most, self._say = graders, most, say
        self._invalid = self._responses = self._prompts = 0

    def add(self, groups: Sequence[Group]) -> None:
        """Adds graded groups. From :data:`ENOUGH` responses on it checks too: a grader that fails always is not waited
        for. Raises GradingError then, see :meth:`Graders.check`."""
        self._prompts += len(groups)
        for group in groups:
            self._responses += len(group.samples)
            self._invalid += sum(sample.outcome is Outcome.INVALID for sample in group.samples)
        if self._responses >= ENOUGH:
            self.check()

    def check(self) -> None:
        """Says a warning if some could not be graded. Raises GradingError, see :meth:`Graders.check`."""
        if warning := self._graders.check_counts(self._invalid, self._responses, self._prompts, self._most):
            self._say(warning)
