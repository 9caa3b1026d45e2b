"""Threads of real actors in a real cgroup, with Ray told that the machine has more cores than the cgroup leaves.

What follows from which file of a cgroup: ``config/test_cores.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
CORES = min(2, (os.cpu_count() or 1) - 1)  # fewer than the machine has, or the cgroup would not matter
SCRIPT = """
import json, os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
import ray
from carerl.actors.crew import crew
from carerl.config.load import load
from carerl.controller.models import base_model as base
from carerl.controller.ending.stopping import StopFlag
from carerl.tracking.display import QuietDisplay
ray.init(address="local", num_cpus=16, include_dashboard=False, object_store_memory=256 * 2**20, logging_level="ERROR")
shares = ["learner.cpus_per_rank=4", "rollout.cpus_per_actor=4", "reference.cpus_per_actor=4"]
config = load(["recipe=care_grpo_tiny", "model.base_overrides=[steps=20]", *shares])
with crew(config) as actors:
    actors.load(config, base.model_directory(config, actors.learner, QuietDisplay(), StopFlag()))
    found = actors.threads()
print(json.dumps({name: [threads.count, threads.share, threads.cores] for name, threads in found.items()}))
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of ``CORES`` cores, where this machine lets us make one."""
    mount = Path("/sys/fs/cgroup/cpu")
    mount = mount if mount.is_dir() else mount.parent
    folder = mount / f"carerl_test_{os.getpid()}"
    if CORES < 1:
        pytest.skip("one core cannot be divided")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        v1 = mount.name == "cpu"
        try:
            (folder / ("cpu.cfs_quota_us" if v1 else "cpu.max")).write_text(f"{100_000 * CORES}" + " 100000" * (not v1))
        except OSError as error:
            pytest.skip(f"no quota can be set here: {error}")
        yield folder
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():  # what Ray has not ended yet
            (mount / "cgroup.procs").write_text(pid)
        folder.rmdir()


def test_no_actor_has_more_threads_than_its_cgroup_has_cores(cgroup: Path) -> None:
    """Each asks Ray for 4 CPUs, of which it says there are 16. The engine has what its process had before vLLM."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cgroup)], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(found) == {"learner 0", "rollout 0", "reference 0", "grading 0"}
    assert {name: cores for name, (_, _, cores) in found.items()} == dict.fromkeys(found, float(CORES))
    assert [found[name][1] for name in ("learner 0", "rollout 0", "reference 0")] == [4.0, 4.0, 4.0]
    assert {name: count for name, (count, _, _) in found.items()} == {**dict.fromkeys(found, CORES), "grading 0": 1}
