"""cluster/docker/before_stop.py, against real processes and a /proc of the test's own making.

Its main program is never run here: it would stop every run of the machine.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.cluster.manifests import ROOT


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("before_stop", ROOT / "cluster" / "docker" / "before_stop.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def proc_of(folder: Path, processes: dict[int, list[str]]) -> Path:
    """A /proc that shows these processes only; those that exist have their real state."""
    for number, words in processes.items():
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "cmdline").write_bytes(b"".join(f"{w}\0".encode() for w in words))
        real = Path("/proc") / str(number) / "stat"
        if real.exists():
            (folder / str(number) / "stat").symlink_to(real)
    return folder


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
        },
    )
    (tmp_path / "cpuinfo").write_text("no process")
    assert hook.drivers(proc) == {4, 5}
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
        assert hook.stop(30.0, proc_of(tmp_path, {child.pid: ["ray::RolloutWorker.advance"]}))
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
