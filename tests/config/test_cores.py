"""What a process may use of a machine's cores: cgroups of both versions as trees of files, and one real cgroup.

Threads of real actors in a cgroup: ``e2e/test_threads.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.config.cores import Threads, thread_count, usable_cores

ROOT = Path(__file__).resolve().parents[2]


def proc(tmp_path: Path, cgroup: str, mounts: list[str]) -> Path:
    """A /proc/self that says so."""
    folder = tmp_path / "proc self"
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    own = ["22 1 0:20 / / rw - ext4 /dev/vda rw", "23 22 0:4 / /proc rw - proc proc rw"]
    (folder / "mountinfo").write_text("\n".join([*own, *mounts]) + "\n")
    return folder


def v2(tmp_path: Path, limits: dict[str, str]) -> Path:
    mount = tmp_path / "unified"
    for place, limit in limits.items():
        (mount / place).mkdir(parents=True, exist_ok=True)
        (mount / place / "cpu.max").write_text(limit + "\n")
    return mount


def v1(mount: Path, limits: dict[str, int]) -> None:
    for place, quota in limits.items():
        (mount / place).mkdir(parents=True, exist_ok=True)
        (mount / place / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (mount / place / "cpu.cfs_period_us").write_text("100000\n")


def test_version_2_takes_the_smallest_on_the_way_up(tmp_path: Path) -> None:
    """A container without a limit of its own in a pod of 4 CPUs on a host of 192."""
    mount = v2(tmp_path, {"pods": "max 100000", "pods/a": "400000 100000", "pods/a/c": "max 100000"})
    folder = proc(tmp_path, "0::/pods/a/c\n", [f"30 22 0:26 / {mount} rw - cgroup2 cgroup rw"])
    assert usable_cores(folder, affinity=192) == 4
    (mount / "pods" / "cpu.max").write_text("300000 200000\n")
    assert usable_cores(folder, affinity=192) == 1.5
    assert usable_cores(folder, affinity=1) == 1


def test_version_2_in_a_namespace_has_its_limit_at_the_mount(tmp_path: Path) -> None:
    mount = v2(tmp_path, {"": "4800000 100000"})
    folder = proc(tmp_path, "0::/\n", [f"30 22 0:26 / {mount} rw - cgroup2 cgroup rw,nsdelegate"])
    assert usable_cores(folder, affinity=192) == 48


def test_version_1_beside_an_empty_version_2(tmp_path: Path) -> None:
    """A hybrid host: CPUs are limited in version 1, and version 2 holds no controllers. A container sees its own part
    of the hierarchy at the mount, under the host's path."""
    mount = tmp_path / "cpu,cpuacct"
    v1(mount, {"": 250000, "inner": -1})
    unified = tmp_path / "unified"
    unified.mkdir()
    mounts = [
        f"30 22 0:26 / {unified} rw - cgroup2 cgroup rw",
        f"31 22 0:27 /docker/abc {mount} rw - cgroup cgroup rw,cpu,cpuacct",
        f"32 22 0:28 /docker/abc {tmp_path} rw - cgroup cgroup rw,cpuset",
    ]
    text = "5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc{}\n0::/docker/abc\n"
    assert usable_cores(proc(tmp_path, text.format("/inner"), mounts), affinity=8) == 2.5


@pytest.mark.parametrize("place", ["/../other", "/elsewhere"])
def test_a_place_that_is_not_below_the_mount_is_the_mount_itself(tmp_path: Path, place: str) -> None:
    mount = v2(tmp_path, {"": "200000 100000"})
    folder = proc(tmp_path, f"0::{place}\n", [f"30 22 0:26 /kubepods {mount} rw - cgroup2 cgroup rw"])
    assert usable_cores(folder, affinity=64) == 2


@pytest.mark.parametrize("limit", ["max 100000", "", "many", "0 0", "-1 100000"])
def test_what_is_no_limit_leaves_the_affinity_mask(tmp_path: Path, limit: str) -> None:
    mount = v2(tmp_path, {"": limit})
    folder = proc(tmp_path, "0::/\n", [f"30 22 0:26 / {mount} rw - cgroup2 cgroup rw"])
    assert usable_cores(folder, affinity=3) == 3


def test_without_proc_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("asked", "share", "cores", "count"),
    [
        (0, 0.2, 2.0, 1),  # a tiny recipe's actor
        (0, 4.0, 48.0, 4),  # a rank of a GPU recipe in a pod of 48
        (0, 4.0, 2.0, 2),  # Ray was told more than the cgroup gives
        (0, 4.0, 1.5, 1),  # two threads would spend the quota of one and a half in two thirds of the time
        (0, 1.9, 8.0, 1),
        (0, 0.0, 0.5, 1),
        (6, 0.2, 2.0, 6),  # asked for: a person may know better
    ],
)
def test_threads_of_an_actor(asked: int, share: float, cores: float, count: int) -> None:
    assert thread_count(asked, share, cores) == count


def test_only_a_number_that_was_asked_for_and_is_too_large_is_warned_about() -> None:
    assert "6 threads on 2 cores" in Threads(6, 6, 0.2, 2.0).warning
    assert Threads(2, 2, 0.2, 2.0).warning == ""
    assert Threads(1, 1, 0.2, 0.5).warning == ""  # there are no fewer
    assert Threads(4, 0, 4.0, 2.0).warning == ""  # the engine's own choice


@pytest.fixture
def cgroup_of_one_core() -> Iterator[Path]:
    """A real cgroup whose processes may use one core, where this machine lets us make one."""
    v1_mount, v2_mount = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    mount = v1_mount if v1_mount.is_dir() else v2_mount
    folder = mount / f"carerl_test_{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        try:
            if mount == v1_mount:
                (folder / "cpu.cfs_quota_us").write_text("100000")
            else:
                (folder / "cpu.max").write_text("100000 100000")
        except OSError as error:
            pytest.skip(f"no quota can be set here: {error}")
        yield folder
    finally:
        folder.rmdir()


def test_a_real_cgroup(cgroup_of_one_core: Path) -> None:
    """A process that enters it has one core, and threads follow from that, whatever Ray was told."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from carerl.config.cores import thread_count, usable_cores\n"
        "before = usable_cores()\n"
        "Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "print(before, usable_cores(), thread_count(0, 8.0, usable_cores()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(cgroup_of_one_core)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    before, cores, threads = done.stdout.split()
    assert float(before) == usable_cores() >= 1
    assert (float(cores), int(threads)) == (1.0, 1)


def test_nobody_else_asks_for_the_hosts_cores() -> None:
    """Where somebody does, a pod of 4 CPUs on a host of 192 gets 192 threads in every actor."""
    files = [path for path in (ROOT / "carerl").rglob("*.py") if "cpu_count" in path.read_text(encoding="utf-8")]
    assert [path.relative_to(ROOT).as_posix() for path in files] == ["carerl/config/cores.py"]
