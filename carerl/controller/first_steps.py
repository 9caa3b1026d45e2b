"""Says once, after the first steps of a run, how much memory its actors have taken, beside what the plan says."""

from __future__ import annotations

from dataclasses import dataclass

from carerl.actors.crew import Crew
from carerl.config.plan.peaks import compared
from carerl.config.schema import RunConfig
from carerl.tracking.display import Display

FIRST = 2  # the optimizer has its state after one step, and the allocator what it keeps after two


@dataclass
class FirstSteps:
    """Counts the steps that this process has taken."""

    taken: int = 0
    told: bool = False

    def peaks(self, actors: Crew, config: RunConfig, display: Display, last: bool) -> dict[str, float]:
        """Ends a step. After the first ones, or after the ``last`` one of a shorter run, shows peaks and warnings and
        returns them as metrics; returns none after any other."""
        self.taken += 1
        if self.told or (self.taken < FIRST and not last):
            return {}
        self.told = True
        found = compared(config, actors.peaks())
        for line in found.lines:
            display.message(line)
        for warning in found.warnings:
            display.message(f"more memory than planned: {warning}")
        return found.metrics
