"""Counts the cores that a process may use, and the threads that an actor takes of them.

A machine's own number of cores says neither: in a container it is the host's. What counts is the smallest of the
affinity mask, the quotas of the process's cgroup and of all above it, and what Ray was asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")  # of a process: its cgroups, and where those are mounted


@dataclass(frozen=True)
class Threads:
    """Holds an actor's share. ``count``: its threads; ``asked``: its ``threads`` setting; ``share``: its CPUs of Ray's;
    ``cores``: what its process may use."""

    count: int
    asked: int
    share: float
    cores: float

    @property
    def warning(self) -> str:
        """What is wrong with a number that was asked for, or ''."""
        if self.asked <= max(1.0, self.cores):
            return ""
        return (
            f"{self.asked} threads on {self.cores:g} cores, as was asked for: threads wait for each other, which "
            "can be several times slower than one on each core"
        )


def thread_count(asked: int, share: float, cores: float) -> int:
    """Counts the threads of an actor: as many as ``asked`` for; with 0 as many as it has whole CPUs of Ray's (one,
    where its share is smaller: such actors run beside others), but not more than ``cores``, and at least one."""
    return asked or max(1, math.floor(min(share, cores)))


def usable_cores(proc: Path = PROC, affinity: int | None = None) -> float:
    """Returns the cores that this process may keep busy at once, which need not be whole: the smallest of its affinity
    mask (``affinity``: None asks the system) and the CPU quotas of its cgroups, version 1 or 2, up to the root."""
    return min([_affinity() if affinity is None else affinity, *_quotas(proc)])


def _affinity() -> float:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # a system that has neither masks nor cgroups


def _quotas(proc: Path) -> Iterator[float]:
    for mount, path in _cpu_cgroups(proc):
        for folder in (mount / path, *(mount / path).parents):
            if (quota := _quota(folder)) is not None:
                yield quota
            if folder == mount:
                break


def _cpu_cgroups(proc: Path) -> Iterator[tuple[Path, Path]]:
    """Yields where each hierarchy that limits CPUs is mounted, with this process's place below it."""
    try:
        places = _places((proc / "cgroup").read_text())
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError:  # no Linux, or a /proc that is closed
        return
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, *_, options = after.split() or [""]
        if kind == "cgroup2":
            place = places.get("")
        elif kind == "cgroup" and "cpu" in options.split(","):
            place = places.get("cpu")
        else:
            continue
        root, mount = (field.replace("\\040", " ") for field in before.split()[3:5])
        if place is not None:
            yield Path(mount), _below(place, root)


def _places(text: str) -> dict[str, str]:
    """Returns the process's path in each hierarchy, by controller; '' is version 2."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _below(place: str, root: str) -> Path:
    """Returns a cgroup's path below a mount that shows the hierarchy from ``root`` on. In a container the path may be
    the host's, which cannot be seen; the mount itself is returned then."""
    path = Path(place)
    if ".." in path.parts or not path.is_relative_to(root):
        return Path()
    return path.relative_to(root)


def _quota(folder: Path) -> float | None:
    """Returns the cores that a cgroup may keep busy; None without a limit."""
    try:
        if (folder / "cpu.max").exists():  # version 2
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)  # "max" and -1: no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
