"""Waiting for actors of a real Ray: one that dies, is stopped, stands still, is slow, or raises.

Whole runs with each of their processes killed and stopped are tests/e2e/test_faults.py's.
"""

from __future__ import annotations

import ast
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

import carerl
from carerl import progress
from carerl.actors.cluster.cluster import cluster
from carerl.actors.health.asking import WATCH, Asker
from carerl.actors.health.ending import end, is_actor, is_stopped
from carerl.actors.health.failures import LOWER, ActorDied, ActorOutOfMemory, ActorRaised, ActorStuck
from carerl.actors.workers.base import Worker
from carerl.actors.workers.engine import StaleWeights
from carerl.actors.workers.engine_client import wait
from carerl.config.load import load
from carerl.config.plan.advice import advice
from carerl.config.schema import ClusterConfig
from carerl.controller.ending.stopping import Interrupted, StopFlag
from carerl.types import RunError

PACKAGE = Path(carerl.__file__).parent


class Busy(Worker):
    """Does what a test asks for."""

    def work(self, seconds: float, moves: bool = True) -> str:
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            time.sleep(0.05)
            if moves:
                progress.step()
        return "done"

    def relay(self, other: Any, method: str, *arguments: Any) -> None:
        """As a learner calls an engine while it sends weights."""
        wait([getattr(other, method).remote(*arguments)], 600.0)

    def take(self, gib: float) -> None:
        """Asks for more memory than its process may have."""
        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
        try:
            torch.empty(int(gib * 2**30), dtype=torch.uint8)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    def fail(self, error: Exception | None) -> None:
        if error is not None:
            raise error


@pytest.fixture(scope="module", autouse=True)
def started() -> Iterator[None]:
    with cluster(object_store_mib=128):
        yield


@pytest.fixture(scope="module")
def remote() -> Any:
    return ray.remote(num_cpus=0.1, concurrency_groups={WATCH: 1})(Busy)


@pytest.fixture(scope="module")
def shared(remote: Any) -> Any:
    """One actor for the tests that leave it as it was; starting another takes seconds."""
    return remote.remote()


@pytest.fixture
def raising(shared: Any, tmp_path: Path) -> tuple[Asker, Any, int]:
    return _asker(shared, tmp_path)


def _asker(actor: Any, place: Path) -> tuple[Asker, Any, int]:
    """A patient asker, its actor and the actor's process."""
    ask = Asker(ClusterConfig(answer_seconds=2.0, progress_minutes=1.0))
    ask.log.move_to(place / "errors.log")
    pid, node = ask(actor.ready.remote(), "start")
    ask.enlist("learner 1", actor, pid, node)
    return ask, actor, pid


@pytest.fixture
def busy(remote: Any, tmp_path: Path) -> Iterator[tuple[Asker, Any, int]]:
    found = _asker(remote.remote(), tmp_path)
    yield found
    end(found[0].members.values(), [found[1]])


@pytest.mark.slow
def test_values_come_in_order_and_an_actor_at_work_gives_signs_of_life(raising: tuple[Asker, Any, int]) -> None:
    ask, actor, _ = raising
    ask.settings.progress_minutes = 1.5 / 60
    begin = time.monotonic()
    assert ask([actor.work.remote(4.5), actor.fail.remote(None)], "train") == ["done", None]
    assert time.monotonic() - begin > 4.5, "three times the limit without progress, and it made some"


def test_an_actor_that_is_killed_is_named_with_cause_and_remedy(busy: tuple[Asker, Any, int], tmp_path: Path) -> None:
    ask, actor, pid = busy
    pending = actor.work.remote(60)
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(ActorDied) as caught:
        ask([pending], "train")
    text = str(caught.value)
    assert f"learner 1 (pid {pid}, node " in text and 'in "train"' in text and "SIGKILL" in text
    assert "resume=DIR" in text and "learner.micro_batch_rows" in text and len(text.splitlines()) == 4
    log = (tmp_path / "errors.log").read_text()
    assert str(tmp_path / "errors.log") in text and "Worker exit type: SYSTEM_ERROR" in log
    assert "Worker exit type" not in text


@pytest.mark.slow
def test_a_stopped_process_is_told_from_a_slow_one_and_is_ended(busy: tuple[Asker, Any, int]) -> None:
    ask, actor, pid = busy
    pending = actor.work.remote(60)
    threading.Timer(0.5, os.kill, (pid, signal.SIGSTOP)).start()
    begin = time.monotonic()
    with pytest.raises(ActorStuck, match=r'learner 1 \(pid .*"generate".*\n.*no sign of life') as caught:
        ask([pending], "generate")
    assert 2 <= time.monotonic() - begin < 6 and "cluster.answer_seconds" in caught.value.remedy
    assert is_actor(pid) and is_stopped(pid)
    end(ask.members.values(), [actor])
    deadline = time.monotonic() + 10
    while is_actor(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_actor(pid), "Ray's word does not reach a stopped process"


@pytest.mark.slow
def test_an_actor_without_progress_is_stuck_and_the_log_says_where(
    busy: tuple[Asker, Any, int], tmp_path: Path
) -> None:
    ask, actor, _ = busy
    ask.settings.progress_minutes = 2.5 / 60
    with pytest.raises(ActorStuck, match="alive and has made no progress") as caught:
        ask([actor.work.remote(60, moves=False)], "train")
    assert "cluster.progress_minutes" in caught.value.remedy
    assert "in work" in (tmp_path / "errors.log").read_text()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MemoryError("8 GiB"), ActorOutOfMemory, "lower learner.micro_batch_rows"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), ActorOutOfMemory, "learner.head_chunk_tokens"),
        (StaleWeights("engine holds weights of version 3, asked for 4"), ActorRaised, "asked for 4"),
        (RunError("3 updates in a row had a NaN norm. Lower lr"), ActorRaised, "Lower lr"),
        (OSError(28, "No space left on device"), ActorRaised, "make room"),
        (ValueError("x" * 5000), ActorRaised, "ValueError: xxx"),
    ],
)  # fmt: skip
def test_what_an_actor_raises_is_one_short_message(
    error: Exception, kind: type, said: str, raising: tuple[Asker, Any, int], tmp_path: Path
) -> None:
    ask, actor, _ = raising
    with pytest.raises(kind) as caught:
        ask([actor.fail.remote(error)], "train")
    text = str(caught.value)
    assert said in text and "Traceback" not in text and "\x1b" not in text and len(text) < 1200
    log = (tmp_path / "errors.log").read_text()
    assert "in fail" in log and "\x1b" not in log


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (None, ActorRaised, r"asked for 4"),
        (signal.SIGKILL, ActorDied, r"rollout.max_batch_rows"),
        pytest.param(signal.SIGSTOP, ActorStuck, r"no sign of life", marks=pytest.mark.slow),
    ],
    ids=["refuses", "killed", "stopped"],
)
def test_of_an_actor_that_calls_another_the_other_is_named_if_it_fails(
    number: signal.Signals | None, kind: type, said: str, shared: Any, busy: tuple[Asker, Any, int], tmp_path: Path
) -> None:
    ask, actor, pid = busy
    ask.enlist("rollout 0", actor, pid)
    ask.enlist("learner 0", shared, *ask(shared.ready.remote(), "start"))
    words = ("work", 60) if number else ("fail", StaleWeights("engine holds weights of version 3, asked for 4"))
    pending = shared.relay.remote(actor, *words)
    if number:
        threading.Timer(0.5, os.kill, (pid, number)).start()
    with pytest.raises(kind, match=rf"rollout 0 \(pid {pid}") as caught:
        ask([pending], "sync", along=[actor])
    assert said in str(caught.value) and "learner" not in str(caught.value).splitlines()[0]
    if number is None:
        assert "in fail" in (tmp_path / "errors.log").read_text(), "the place in the other's code"


@pytest.mark.slow
def test_an_actor_that_has_ended_its_part_need_show_nothing(remote: Any, busy: tuple[Asker, Any, int]) -> None:
    """The first gives no sign of life after its end, which is asked for and not waited for."""
    ask, actor, pid = busy
    other = remote.remote()
    ask.enlist("learner 0", other, *ask(other.ready.remote(), "start"))
    pending = [actor.work.remote(0.8), other.work.remote(6)]
    threading.Timer(0.9, os.kill, (pid, signal.SIGSTOP)).start()
    assert ask(pending, "train") == ["done", "done"]
    ray.kill(other)


@pytest.mark.slow
def test_of_two_failures_the_cause_is_told(remote: Any, busy: tuple[Asker, Any, int]) -> None:
    """A rank that has lost another raises at once; that the other has died is known a moment later."""
    ask, actor, pid = busy
    other = remote.remote()
    ask.enlist("learner 0", other, *ask(other.ready.remote(), "start"))
    pending = [other.fail.remote(RuntimeError("Connection closed by peer")), actor.work.remote(60)]
    threading.Timer(1.5, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(ActorDied, match="learner 1"):
        ask(pending, "train")
    ray.kill(other)


@pytest.mark.slow
def test_a_stop_ends_what_has_nothing_to_save_at_once_and_shortens_the_rest(busy: tuple[Asker, Any, int]) -> None:
    ask, actor, pid = busy
    assert ask.limits("train") == (2.0, 60.0) and ask.limits("save") == (2.0, 240.0) and ask.limits("load")[0] == 10.0
    with StopFlag() as stop:
        ask.stopped, ask.check = stop.code, stop.check
        signal.raise_signal(signal.SIGTERM)
        assert ask.limits("train") == (0.5, 15.0)
        assert ask([actor.work.remote(1.5)], "train") == ["done"], "a step may end, and be saved"
        with pytest.raises(Interrupted):
            ask([actor.work.remote(3)], "load")
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ActorStuck) as caught:
            ask([actor.work.remote(3)], "train")
        assert caught.value.exit_code == 143


def test_what_failed_on_its_way_to_another_actor_is_told(raising: tuple[Asker, Any, int]) -> None:
    ask, actor, _ = raising
    broken = actor.fail.remote(MemoryError("8 GiB"))
    ask.wait([broken], "reference")  # whoever takes the value is told
    with pytest.raises(ActorOutOfMemory):
        ask([actor.work.remote(broken)], "train")


def test_an_actor_out_of_memory_is_told_the_largest_part_of_its_own_plan(raising: tuple[Asker, Any, int]) -> None:
    """Of the host's memory by a limit of the kernel's, of a card's in CUDA's words: a plan for each."""
    ask, actor, _ = raising
    config = load(["recipe=care_grpo_7b"])
    ask.advice = lambda role, phase: advice(config, role, phase)
    told = advice(config, "learner")
    assert told.card and told.host and told.card != told.host
    with pytest.raises(ActorOutOfMemory, match="can't allocate memory") as caught:
        ask([actor.take.remote(8)], "train")
    assert caught.value.remedy == f"{told.host}. Also possible: {LOWER['learner']}"
    with pytest.raises(ActorOutOfMemory) as caught:
        ask([actor.fail.remote(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))], "train")
    assert caught.value.remedy == f"{told.card}. Also possible: {LOWER['learner']}"


def test_a_plan_that_cannot_be_made_hides_no_failure(raising: tuple[Asker, Any, int]) -> None:
    ask, actor, _ = raising
    ask.advice = lambda role, phase: {}[role]
    with pytest.raises(ActorOutOfMemory) as caught:
        ask([actor.fail.remote(MemoryError("8 GiB"))], "train")
    assert caught.value.remedy == LOWER["learner"]


def bare_waits(source: str, file: str) -> list[str]:
    """Calls of ray.get and ray.wait without a timeout, in words."""
    return [
        f"{file}:{node.lineno} {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("ray.get", "ray.wait")
        and not any(keyword.arg == "timeout" for keyword in node.keywords)
    ]


def test_nobody_waits_for_ray_but_the_asker() -> None:
    found = [
        wait
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).as_posix() != "actors/health/asking.py"
        for wait in bare_waits(path.read_text(), path.relative_to(PACKAGE).as_posix())
    ]
    assert found == []
    assert bare_waits("import ray\nray.get(x)\nray.wait([x], timeout=1)\nray.wait([x])", "a.py") == [
        "a.py:2 ray.get",
        "a.py:4 ray.wait",
    ]
