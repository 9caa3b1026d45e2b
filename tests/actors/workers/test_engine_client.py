"""What an engine raises while the learner waits for something else: the driver gets it with a sign of life.

That the driver then names the engine is in ``actors/health/test_asking.py``.
"""

from __future__ import annotations

from typing import Any

import pytest

from carerl.actors.health.failures import OfAnother
from carerl.actors.workers import engine_client
from carerl.actors.workers.engine_client import EngineClient, patience
from carerl.actors.workers.learner import LearnerWorker
from carerl.config.load import load
from tests.actors.local import Local


class Refuses:
    def start_weight_update(self) -> None: ...

    def update_weights(self, info: dict[str, Any]) -> None: ...


def test_a_learner_in_a_broadcast_tells_what_an_engine_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = OfAnother(MemoryError("no room"), "ab12", "its traceback")
    refuse = False

    def wait(calls: list[Any], seconds: float) -> None:
        assert seconds == 2 * patience(load(["recipe=care_grpo_tiny", "cluster.progress_minutes=15"]))
        if refuse:
            raise raised

    monkeypatch.setattr(engine_client, "wait", wait)
    worker = LearnerWorker()
    worker._client = client = EngineClient([Local(Refuses())], 1, patience(load(["recipe=care_grpo_tiny"])))
    client.start_weight_update()
    client.update_weights({})
    assert worker.pulse().steps >= 0
    refuse = True
    with pytest.raises(OfAnother):  # on a thread beside the broadcast, where nobody looks until it ends
        client.update_weights({})
    with pytest.raises(OfAnother) as told:
        worker.pulse()
    assert told.value is raised
    refuse = False
    client.start_weight_update()
    assert worker.pulse().steps >= 0, "of an earlier sync"
