"""Recording on a real Ray: calls, waits and copies of an actor and of the driver, and which steps are recorded.

Whole runs: ``e2e/test_profile.py``; a process by itself: ``backends/test_recorder.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from carerl.actors import profiling
from carerl.actors.workers.base import Worker
from carerl.backends import recorder
from carerl.backends.recording import CALL, COPY, WAIT, Recording
from carerl.controller.loops import LOOPS
from carerl.controller.profiling import Profiler
from carerl.report.profile import segments, spent

pytestmark = pytest.mark.timeout(120)
LARGE = 2**22  # float64: 32 MiB, which Ray copies into its store


class Doubler(Worker):
    def work(self, values: Any) -> Any:
        time.sleep(0.05)
        return values * 2


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=400 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def actor() -> Any:
    return ray.remote(profiling.traced(Doubler)).options(num_cpus=0.2).remote()


def test_calls_waits_and_copies_of_driver_and_actor(actor: Any) -> None:
    get, put, wait = ray.get, ray.put, ray.wait
    values = np.ones(LARGE)
    ray.get(actor.record.remote(False))
    profiling.record()
    with recorder.span("whole"):
        doubled = ray.get(actor.work.remote(ray.put(values)))
    own = profiling.recorded()
    assert (ray.get, ray.put, ray.wait) == (get, put, wait)
    theirs: Recording = ray.get(actor.recorded.remote())
    assert doubled[0] == 2.0 and own.pid != theirs.pid
    assert profiling.add_copies([own, theirs]) == ""
    calls = [span for span in theirs.spans if span.kind == CALL]
    assert [span.name for span in calls] == ["Doubler.work"]
    # the largest of each name: the call that began the recording has ended in it, too
    copies = {span.name: span for span in sorted(theirs.spans, key=lambda span: span.wall) if span.kind == COPY}
    assert set(copies) == {"task:deserialize_arguments", "task:store_outputs"}
    assert copies["task:deserialize_arguments"].end <= calls[0].end
    assert copies["task:store_outputs"].begin >= calls[0].end - 5_000_000
    assert copies["task:store_outputs"].wall > 1_000_000  # 32 MiB
    names = {(span.name, span.kind) for span in own.spans}
    assert {("ray.get: wait", WAIT), ("ray.get: copy", COPY), ("ray.put", COPY), ("submit_task", COPY)} <= names
    whole = next(span for span in own.spans if span.name == "whole")
    sums = spent(segments(own.spans), [(whole.begin, whole.end)])
    assert sum(sums.values()) == pytest.approx(whole.wall)
    assert sums["waiting"] > 50_000_000 > sums["computing"]
    assert sums["copying"] > 1_000_000


def test_an_error_of_an_actor_arrives_as_ever(actor: Any) -> None:
    profiling.record()
    try:
        with pytest.raises(TypeError):
            ray.get(actor.work.remote(None))
    finally:
        found = profiling.recorded()
    assert "ray.get: copy" in {span.name for span in found.spans}


def test_without_a_timeline_the_rest_is_kept_and_that_is_said(actor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> Any:
        raise ConnectionError("no events are kept")

    monkeypatch.setattr(ray, "timeline", closed)
    assert "no events are kept" in profiling.add_copies([Recording(1)])


class OneActor:
    """A crew as the profiler sees it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.asked: list[bool] = []

    def record(self, ops: bool) -> None:
        self.asked.append(ops)
        ray.get(self._actor.record.remote(ops))

    def recorded(self) -> list[Recording]:
        found: Recording = ray.get(self._actor.recorded.remote())
        found.process = "doubler 0"
        return [found]


@pytest.mark.parametrize("start", [0, 50])
def test_a_loop_is_recorded_from_its_third_step_on(actor: Any, tmp_path: Path, start: int) -> None:
    crew, said = OneActor(actor), []
    profiler = Profiler(crew, True, LOOPS["rl"].recorded, start)  # type: ignore[arg-type]
    for step in range(start + 1, start + 10):
        profiler.reach(step)
        with recorder.span("step"), recorder.span(f"number {step}"):
            ray.get(actor.work.remote(np.ones(2)))
    profiler.finish(start + 9, tmp_path, said.append)
    assert crew.asked == [False, True]
    text = (tmp_path / "profile.txt").read_text()
    assert f"steps {start + 3} to {start + 7}\n" in text and f"step {start + 8}: torch's operations" in text
    events = json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    numbers = sorted({int(e["name"].split()[1]) for e in events if e["name"].startswith("number")})
    assert numbers == list(range(start + 3, start + 9))
    assert sum(e["name"] == "Doubler.work" for e in events) == 6
    assert any(str(tmp_path / "profile.txt") in line for line in said)


def test_a_short_run_writes_what_there_is_and_says_what_is_missing(actor: Any, tmp_path: Path) -> None:
    said: list[str] = []
    profiler = Profiler(OneActor(actor), True, LOOPS["rl"].recorded)  # type: ignore[arg-type]
    with profiler.window("evaluation"):
        ray.get(actor.work.remote(np.ones(2)))
    for step in range(1, 5):
        profiler.reach(step)
        with recorder.span("step"):
            ray.get(actor.work.remote(np.ones(2)))
    profiler.finish(4, tmp_path, said.append)
    text = (tmp_path / "profile.txt").read_text()
    assert text.startswith("evaluation") and "steps 3 to 4" in text and "mean of 2" in text
    assert any("8 steps" in line for line in said)


def test_off_it_does_nothing(tmp_path: Path) -> None:
    profiler = Profiler(None, False)  # type: ignore[arg-type]
    with profiler.window("evaluation"):
        profiler.reach(3)
    profiler.finish(9, tmp_path, print)
    assert list(tmp_path.iterdir()) == []
