"""A crew whose workers live in this process, without Ray: for tests that follow a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch.distributed as dist

from carerl.actors import crew
from carerl.actors.crew import TrainingCrew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.graders import Graders
from carerl.actors.handles.learner import Learner
from carerl.actors.handles.reference import Reference
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.grader import GraderWorker
from carerl.actors.workers.learner import LearnerWorker
from carerl.actors.workers.reference import ReferenceWorker
from tests.actors.local import Local, without_ray


@contextmanager
def crew_in_process(
    monkeypatch: pytest.MonkeyPatch,
    rollout: Callable[[], Any] = EngineWorker,
    learner: Callable[[], Any] = LearnerWorker,
) -> Iterator[TrainingCrew]:
    """One worker a role; ``rollout`` and ``learner`` make others than the real ones."""
    without_ray(monkeypatch)
    monkeypatch.setattr(crew.ray, "put", lambda value: value)
    actors = [Local(make()) for make in (learner, rollout, GraderWorker, ReferenceWorker)]
    try:
        yield TrainingCrew(
            learner=Learner([actors[0]], 0.0),
            engines=Engines([actors[1]]),
            graders=Graders([actors[2]]),
            reference=Reference([actors[3]]),
            actors=actors,
            names=["learner 0", "rollout 0", "grading 0", "reference 0"],
        )
    finally:
        dist.destroy_process_group()
