"""Whether the kernel has ended processes of this node for want of memory: what tells its SIGKILL from another's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(places: Sequence[Path] | None = None) -> int:
    """How many of this process's cgroup, since it was made; 0 where nothing says so."""
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
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        own = []
    paths = [line.split(":", 2)[2].lstrip("/") for line in own if line.startswith("0::")]
    return [
        *(CGROUPS / path / "memory.events" for path in paths),  # cgroup v2
        CGROUPS / "memory.events",  # v2, where a container sees its own as the root
        CGROUPS / "memory" / "memory.oom_control",  # v1
    ]
