"""A crew whose workers live in this process, without Ray: for tests that follow a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from carerl.actors import crew
from carerl.actors.crew import TrainingCrew
from carerl.actors.handles.engines import Engines, JudgeEngines
from carerl.actors.handles.graders import Graders
from carerl.actors.handles.learner import Learner
from carerl.actors.handles.reference import Reference, ReferenceInLearner
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.grader import GraderWorker
from carerl.actors.workers.learner import LearnerWorker
from carerl.actors.workers.reference import ReferenceWorker
from tests.actors.local import Local, without_ray
from tests.backends.learners.ranks import end_group


@contextmanager
def crew_in_process(
    monkeypatch: pytest.MonkeyPatch,
    rollout: Callable[[], Any] = EngineWorker,
    learner: Callable[[], Any] = LearnerWorker,
    colocated: bool = False,
    within: bool = False,
    judged: bool = False,
    calls: list[str] | None = None,
) -> Iterator[TrainingCrew]:
    """One worker a role; ``rollout`` and ``learner`` make others than the real ones. ``colocated``: engine and rank
    take turns, ``within``: the reference is in the rank and no worker of its own, as the run's settings must say too.
    ``judged``: there is an engine of a second model.
    ``calls`` gets each call that reaches a worker."""
    names = ["learner 0", "rollout 0", "grading 0", *([] if within else ["reference 0"])]

    def told(name: str) -> Callable[[str, tuple[Any, ...]], None]:
        return lambda method, arguments: None if calls is None else calls.append(f"{name}: {method}")

    without_ray(monkeypatch)
    monkeypatch.setattr(crew.ray, "put", lambda value: value)
    makers = (learner, rollout, GraderWorker, *(() if within else (ReferenceWorker,)))
    if judged:
        names, makers = [*names, "judge 0"], (*makers, EngineWorker)
    # the ranks send weights through the handles that they get, which cannot be copied
    actors = [Local(make(), told(name), "learner" not in name) for make, name in zip(makers, names, strict=True)]
    try:
        ranks = Learner([actors[0]], 0.0)
        yield TrainingCrew(
            learner=ranks,
            engines=Engines([actors[1]], sharing=ranks if colocated else None),
            graders=Graders([actors[2]]),
            reference=ReferenceInLearner() if within else Reference([actors[3]]),
            judge=JudgeEngines([actors[-1]]) if judged else None,
            actors=actors,
            names=names,
        )
    finally:
        end_group()
