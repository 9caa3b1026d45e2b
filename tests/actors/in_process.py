"""A crew whose workers live in this process, without Ray: for tests that follow a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch.distributed as dist

from carerl.actors import crew
from carerl.actors.crew import Crew
from carerl.actors.workers import base as workers
from carerl.actors.workers import grader as grading
from tests.actors.local import Local, without_ray


@contextmanager
def crew_in_process(
    monkeypatch: pytest.MonkeyPatch,
    rollout: Callable[[], Any] = workers.RolloutWorker,
    learner: Callable[[], Any] = workers.LearnerWorker,
) -> Iterator[Crew]:
    """One worker a role; ``rollout`` and ``learner`` make others than the real ones."""
    without_ray(monkeypatch)
    monkeypatch.setattr(crew.ray, "put", lambda value: value)
    actors = [Local(make()) for make in (learner, rollout, grading.RewardWorker, workers.ReferenceWorker)]
    try:
        yield Crew(
            crew.Learner([actors[0]], 0.0),
            crew.Rollout([actors[1]]),
            crew.Grading([actors[2]]),
            crew.Reference([actors[3]]),
            actors,
            ["learner 0", "rollout 0", "grading 0", "reference 0"],
        )
    finally:
        dist.destroy_process_group()
