"""cluster/docker/before_stop.py, against real processes and a /proc of the test's own making.

Its main program is never run here: it would stop every run of the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.cluster.hook import load_hook, proc_of


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return load_hook()


def test_drivers_and_actors_are_told_from_what_is_around_them(hook: ModuleType, tmp_path: Path) -> None:
    proc = proc_of(
        tmp_path,
        {
            1: ["/bin/bash", "-c", "ulimit -n 65536; ray start --head --block"],
            2: ["/opt/carerl/bin/python", "/opt/carerl/bin/ray", "start", "--head"],
            3: ["/bin/sh", "-c", "python -m carerl.run recipe=care_grpo_tiny"],
            4: ["/opt/carerl/bin/python", "-m", "carerl.run", "recipe=care_grpo_tiny"],
            5: ["python3.11", "-u", "-m", "carerl.sweep", "sweep=regularizers_tiny"],
            6: ["python", "-m", "carerl.compare", "/runs"],
            7: ["ray::LearnerWorker.update"],
            8: ["ray::IDLE"],
            9: [""],  # a kernel thread
            10: ["/opt/carerl/bin/python3", "/opt/carerl/bin/carerl", "run", "recipe=care_grpo_tiny"],
            11: ["python", "-m", "carerl", "evaluate", "model=x"],
            12: ["/opt/carerl/bin/python", "/opt/carerl/bin/carerl", "compare", "run"],
            13: ["python", "-m", "carerl"],
            14: ["python", "train.py", "carerl", "run"],
        },
    )
    (tmp_path / "cpuinfo").write_text("no process")
    assert hook.drivers(proc) == {4, 5, 10, 11}
    assert hook.actors(proc) == {7}


def test_a_driver_is_told_and_waited_for_until_it_has_saved(hook: ModuleType, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    program = (
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n"
        f"    time.sleep(0.5); pathlib.Path({str(saved)!r}).write_text('yes'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        proc = proc_of(tmp_path / "proc", {child.pid: ["python", "-m", "carerl.run"]})
        assert hook.stop(30.0, proc)
        assert saved.read_text() == "yes"  # written before stop() returned
        assert child.wait() == 143


def test_an_actor_is_waited_for_and_not_told(hook: ModuleType, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as child:
        begin = time.monotonic()
        assert hook.stop(30.0, proc_of(tmp_path, {child.pid: ["ray::EngineWorker.advance"]}))
        assert time.monotonic() - begin < 29
        assert child.wait() == 0  # it ended by itself; a signal would show here


def test_the_wait_has_an_end(hook: ModuleType, tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        assert not hook.stop(0.5, proc_of(tmp_path, {child.pid: ["python", "-m", "carerl.run"]}))
        os.kill(child.pid, signal.SIGKILL)


def test_nothing_to_wait_for_is_no_wait(hook: ModuleType, tmp_path: Path) -> None:
    assert hook.stop(0.0, proc_of(tmp_path, {1: ["ray::IDLE"]}))


RAYLET = ["/opt/ray/raylet/raylet", "--store_socket_name=/tmp/x", "--node_id=ab12", "--gcs-address=10.0.0.1:6379",
          "--agent_command=python agent.py --gcs-address=wrong --node-id=wrong"]  # fmt: skip


def test_a_worker_with_actors_has_ray_told_that_its_node_will_go(hook: ModuleType, tmp_path: Path) -> None:
    """tests/e2e/test_autoscaling.py tells a real one."""
    command = hook.drain_command(proc_of(tmp_path, {7: ["python", "x"], 8: RAYLET}), 1170.0)
    assert command[:6] == ["ray", "drain-node", "--address", "10.0.0.1:6379", "--node-id", "ab12"]
    assert command[command.index("--deadline-remaining-seconds") + 1] == "1170"
    assert hook.drain_command(proc_of(tmp_path / "none", {7: ["python", "x"]}), 9.0) == []


@pytest.mark.parametrize(
    ("beside", "told"),
    [(["ray::LearnerWorker"], True), (["ray::IDLE"], False), (["python", "-m", "carerl.run"], False)],
)
def test_who_has_no_actors_or_has_the_driver_tells_nobody(
    hook: ModuleType, beside: list[str], told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ray").write_text(f"#!/bin/sh\necho $1 > {tmp_path / 'called'}\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        proc = proc_of(tmp_path / "proc", {child.pid: beside, 2**22 + 1: RAYLET})
        hook.stop(0.5, proc)
        assert (tmp_path / "called").exists() == told
        child.kill()
