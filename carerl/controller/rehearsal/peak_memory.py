"""Measures how much memory a process and all that it has started take together, at most."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

INTERVAL_S = 1.0


def memory_bytes(root: int) -> int:
    """Returns the bytes that a process and its descendants take now. A page that several of them share, for instance of
    libraries or of an object store, counts once: each has its part of it (PSS). The kernel walks every page for it."""
    return sum(_shared_out(pid) for pid in _family(root))


def resident_bytes(root: int) -> int:
    """Returns the same with shared pages counted in every process that has them (RSS): more, and cheap to ask for."""
    return sum(_resident(pid) for pid in _family(root))


def _family(root: int) -> set[int]:
    """Returns the ids of a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # The command's name stands in brackets and may have blanks; the parent is the second word after it.
        with suppress(OSError, ValueError, IndexError):  # the process has ended meanwhile
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    family, found = {root}, True
    while found:
        children = {pid for pid, parent in parents.items() if parent in family} - family
        family |= children
        found = bool(children)
    return family


def _shared_out(pid: int) -> int:
    """Returns a process's PSS, bytes; 0 if it has ended."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def _resident(pid: int) -> int:
    """Returns a process's RSS, bytes; 0 if it has ended."""
    with suppress(OSError, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0


class PeakMemory:
    """Measures memory every second, in a thread of its own, for the length of its block. Takes the slow measure only
    when more is resident than ever before."""

    def __init__(self) -> None:
        self.bytes = 0
        self._resident = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def gib(self) -> float:
        return self.bytes / 2**30

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            resident = resident_bytes(os.getpid())
            if resident > self._resident:
                self._resident = resident
                self.bytes = max(self.bytes, memory_bytes(os.getpid()))
            if self._ended.wait(INTERVAL_S):
                return
