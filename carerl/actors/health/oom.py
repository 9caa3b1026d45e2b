"""Counts the processes that the kernel killed because memory ran out: tells its SIGKILL from anybody else's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(places: Sequence[Path] | None = None) -> int:
    """Returns how many processes of this process's cgroup the kernel has killed for lack of memory since the cgroup was
    made. Without a cgroup that counts them: of this machine since it started; 0 if it does not count either."""
    for place in _places() if places is None else places:
        try:
            lines = place.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.strip().isdigit():
                return int(value)
    return 0


def _places() -> list[Path]:
    """Returns the files that may hold the count, the most specific first."""
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        own = []
    paths = [line.split(":", 2)[2].lstrip("/") for line in own if line.startswith("0::")]
    return [
        *(CGROUPS / path / "memory.events" for path in paths),  # cgroup v2
        CGROUPS / "memory.events",  # v2, where a container sees its own as the root
        CGROUPS / "memory" / "memory.oom_control",  # v1
        Path("/proc/vmstat"),  # the whole machine
    ]
