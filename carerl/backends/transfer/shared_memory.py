"""Shares a stretch of memory with other processes of this node.

Python's own ``multiprocessing.shared_memory`` is not used: up to 3.12 its tracker removes a segment as soon as *one* of
the processes that opened it ends. Here the file is removed by its maker once all have opened it. Memory lives on while
somebody has it mapped, so nothing is left behind, however the processes end.
"""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

import torch
from torch import Tensor

from carerl.types import RunError

DIRECTORY = Path("/dev/shm")


class NoSharedMemory(RunError):
    """Says that there is not enough shared memory for a weight sync."""


class Segment:
    """A stretch of shared memory. ``bytes_N``: its bytes, (N,) uint8, without a copy."""

    def __init__(self, path: Path, size: int, descriptor: int):
        self.path, self.size = path, size
        try:
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self.bytes_N: Tensor = torch.frombuffer(self._map, dtype=torch.uint8)

    @classmethod
    def make(cls, size: int, directory: Path = DIRECTORY) -> Segment:
        """Makes a segment that only this user can open. Raises NoSharedMemory if there is no room for it."""
        path = directory / f"carerl_{os.getpid()}_{secrets.token_hex(8)}"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)  # otherwise a full file system would kill by SIGBUS later
            except BaseException:
                os.close(descriptor)
                path.unlink()
                raise
        except OSError as error:
            raise NoSharedMemory(
                f"{size / 2**20:.0f} MiB of shared memory for a weight sync: {directory}: {error.strerror}. Lower "
                "sync.bucket_mib, of which two are needed, give the container more shared memory, or write "
                "sync.transfer=store"
            ) from None
        return cls(path, size, descriptor)

    @classmethod
    def open(cls, path: str, size: int) -> Segment:
        """Opens a segment that another process of this user made. Raises OSError if it is not there or too small."""
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        found = os.fstat(descriptor).st_size
        if found < size:
            os.close(descriptor)
            raise OSError(f"{path} has {found} bytes, not {size}")
        return cls(Path(path), size, descriptor)

    def forget(self) -> None:
        """Removes its name. Processes that have opened it keep it."""
        self.path.unlink(missing_ok=True)
