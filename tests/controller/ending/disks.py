"""A small disk, for tests of what happens when it is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, mebibytes: float) -> Iterator[Path]:
    """A file system of so many MiB, mounted at ``place``. Skips the test where none may be mounted."""
    place.mkdir()
    options = f"size={int(mebibytes * 1024)}k"
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "carerl", str(place)], capture_output=True)
    except OSError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("no file system may be mounted here (it takes root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Fills a disk to its last byte but ``leave``."""
    filler = place / "filler"
    with open(filler, "ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
        if leave:
            file.truncate(max(0, filler.stat().st_size - leave))
    return filler
