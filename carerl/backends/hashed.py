"""Writes files whose SHA-256 is known as soon as they are on the disk, so that nobody reads them back to hash them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple


class Written(NamedTuple):
    """Describes a file as it was written: its size in bytes, and the SHA-256 of what was written, in hex."""

    size: int
    sha256: str


Write = Callable[[], dict[str, Written]]
"""Writes what was copied to host memory before; returns every file that it wrote, by its path. Called once, and on
another thread than the one that trains."""


class HashedFile(io.IOBase):
    """Hashes all that is written to a file. It cannot seek: a sum over bytes that change later would be wrong."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sum, self._size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Writes and hashes bytes, or any object that holds them in memory; returns how many."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._sum.update(view)  # lets other threads run, as writing does
        self._size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        self._file.flush()

    def written(self) -> Written:
        """Returns size and sum of what has been written so far."""
        return Written(self._size, self._sum.hexdigest())


@contextmanager
def hashed(path: Path, written: dict[str, Written]) -> Iterator[HashedFile]:
    """Opens a file to be written from its beginning to its end. After the block it is on the disk, and ``written`` has
    it by its path. Raises OSError."""
    with open(path, "wb") as file:
        stream = HashedFile(file)
        yield stream
        file.flush()
        os.fsync(file.fileno())
    written[str(path)] = stream.written()
