"""What Ray raises, as a message for a person: who, where, when, why, and what to do. Pure; the errors are Ray's own."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectStoreFullError,
    RayActorError,
    RayError,
    RayTaskError,
)

from carerl.actors.health.error_log import ErrorLog
from carerl.actors.health.failures import (
    LOWER,
    ActorDied,
    ActorFailed,
    ActorOutOfMemory,
    ActorRaised,
    OfAnother,
    Where,
    failure_of,
    origin,
    weight,
)
from carerl.actors.health.oom import oom_kills
from carerl.actors.workers.engine import StaleWeights
from carerl.config.load import load
from carerl.config.plan.advice import Advice
from carerl.config.roles import actor_groups

SIGKILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: LearnerWorker\n\tpid: 12\n\tip: 10.0.0.1\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called"
)
MONITOR = (
    "The actor is dead because its worker process has died. Worker exit type: NODE_OUT_OF_MEMORY Worker exit detail: "
    "Task was killed due to the node running low on memory."
)
WHERE = Where("learner 1", 12, "10.0.0.1", "train", 7.4)


def died(text: str, preempted: bool = False) -> RayActorError:
    error = ActorDiedError()
    error.error_msg, error._preempted = text, preempted
    return error


def raised(error: Exception) -> RayTaskError:
    return RayTaskError("update", "", error).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "kills", "kind", "cause"),
    [
        (died(SIGKILLED), 0, ActorDied, "from outside (SIGKILL)"),
        (died(SIGKILLED), 1, ActorOutOfMemory, "the kernel killed it"),
        (died(MONITOR), 0, ActorOutOfMemory, "memory monitor"),
        (died("The actor is dead because its node has died. Node Id: ab"), 0, ActorDied, "its node has died"),
        (died("The actor is dead because its node has died.", True), 0, ActorDied, "taken away"),
        (died("The actor is dead because all references to it were removed."), 0, ActorDied, "references"),
        (ActorUnavailableError("connection reset", None), 0, ActorDied, "cannot be reached"),
        (ObjectStoreFullError("full"), 0, ActorOutOfMemory, "object store is full"),
        (RayError("something of the next version"), 0, ActorFailed, "something of the next version"),
    ],
)
def test_the_cause_is_named(error: RayError, kills: int, kind: type, cause: str) -> None:
    found = failure_of(error, WHERE, kills)
    assert type(found) is kind and cause in found.cause
    lines = str(found).splitlines()
    assert lines[0].startswith('learner 1 (pid 12, node 10.0.0.1) in "train", after 7 s: ')
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["cause", "remedy"]
    assert found.details == str(error), "all of it, for the log"


def test_what_an_actor_was_told_by_another_is_told_as_the_others() -> None:
    """As it comes to the driver: Ray wraps it, and sends it as a pickle."""
    details = "Traceback of the engine"
    raised = RayTaskError("send", "Traceback of the learner", OfAnother(StaleWeights("asked for 4"), "ab12", details))
    came = pickle.loads(pickle.dumps(raised)).as_instanceof_cause()
    assert isinstance(came, OfAnother) and origin(came).actor_id == "ab12"  # type: ignore[attr-defined]
    found = failure_of(came, WHERE)
    assert type(found) is ActorRaised and "StaleWeights: asked for 4" in found.cause
    assert "lost its weights" in found.remedy and found.details == details
    memory = RayTaskError("send", "", OfAnother(MemoryError("8 GiB"), "ab12", details)).as_instanceof_cause()
    assert type(failure_of(memory, WHERE)) is ActorOutOfMemory


@pytest.mark.parametrize("role", sorted(LOWER))
def test_an_actor_out_of_memory_is_told_which_of_its_own_settings_to_lower(role: str) -> None:
    found = failure_of(died(MONITOR), Where(f"{role} 0"))
    assert LOWER[role] in found.remedy and f"{role}." in LOWER[role]


@pytest.mark.parametrize(
    ("error", "kills", "memory"),
    [
        (died(MONITOR), 0, "host"),
        (died(SIGKILLED), 1, "host"),
        (died(SIGKILLED), 0, "host"),  # "if its node's dmesg shows an OOM kill"
        (raised(MemoryError("8 GiB")), 0, "host"),
        (raised(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")), 0, "host"),
        (raised(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")), 0, "card"),
        (raised(ValueError("No available memory for the cache blocks. Try increasing")), 0, "card"),
    ],
)
def test_what_is_largest_in_the_plan_comes_first_for_the_memory_that_ran_out(
    error: RayError, kills: int, memory: str
) -> None:
    where = replace(WHERE, advice=Advice(card="lower the card's", host="lower the host's"))
    remedy = failure_of(error, where, kills).remedy
    assert f"lower the {memory}'s. Also possible: {LOWER['learner']}" in remedy
    assert LOWER["learner"] in failure_of(error, WHERE, kills).remedy, "without a plan"


def test_every_role_has_an_advice() -> None:
    groups = [*actor_groups(load(["recipe=care_grpo_tiny"])), *actor_groups(load(["recipe=caspo_7b", "dry_run=true"]))]
    assert set(LOWER) == {group.role for group in groups}


def test_the_heaviest_of_several_failures_is_the_cause() -> None:
    memory, dead = failure_of(died(MONITOR), WHERE), failure_of(died(SIGKILLED), WHERE)
    other = failure_of(RayError("x"), WHERE)
    assert max([other, dead, memory], key=weight) is memory and max([other, dead], key=weight) is dead


def test_the_log_keeps_what_it_was_told_until_it_has_a_place_and_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    log = ErrorLog()
    log.note("a raylet says", "\x1b[33mkey 0123456789abcdef\x1b[0m")
    log.move_to(tmp_path / "errors.log")
    assert log.write("learner 1", "Traceback") == str(tmp_path / "errors.log")
    text = (tmp_path / "errors.log").read_text()
    assert "a raylet says" in text and "Traceback" in text
    assert "0123456789abcdef" not in text and "\x1b" not in text


def test_a_log_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    log = ErrorLog()
    log.move_to(tmp_path / "none" / "errors.log")
    assert log.write("learner 1", "Traceback") == ""


def test_without_a_run_directory_the_log_is_the_owners_alone() -> None:
    place = Path(ErrorLog().write("learner 1", "Traceback"))
    try:
        assert place.stat().st_mode & 0o077 == 0
    finally:
        place.unlink()


def test_the_kernels_count_is_read_in_all_its_forms(tmp_path: Path) -> None:
    v2, v1 = tmp_path / "memory.events", tmp_path / "memory.oom_control"
    v2.write_text("low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 0\n")
    v1.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert oom_kills([v2]) == 3 and oom_kills([tmp_path / "none", v1]) == 5 and oom_kills([tmp_path / "none"]) == 0
