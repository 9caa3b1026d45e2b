"""Measures room for checkpoints: how much one takes and how much is free; turns a full disk's errors into words.

Before a run starts, :mod:`carerl.config.check.places` checks the room for all of it.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from carerl.config.plan.host_memory import checkpoint_bytes
from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local, shape_from_directory
from carerl.config.stored import newest_checkpoint
from carerl.types import RunError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def size_of(directory: Path) -> int:
    """Returns the bytes of the files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def needed(config: RunConfig, model_dir: str, run_dir: Path) -> int:
    """Returns the bytes that the next checkpoint takes: as many as the newest one. For the first they follow from the
    model's shape (0 if that is not known here)."""
    newest = newest_checkpoint(run_dir)
    if newest is not None:
        return size_of(newest)
    if not model_dir:
        return checkpoint_bytes(config, config.model.shape)
    if looks_local(model_dir) and (Path(model_dir) / "config.json").is_file():
        return checkpoint_bytes(config, shape_from_directory(model_dir))
    return 0


def free(place: Path) -> int:
    """Returns the bytes that may still be written where ``place`` is, or will be."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def is_full(error: BaseException | None) -> bool:
    """Returns True if an error, or what caused it, says that a disk is full."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(os.strerror(code) in str(error) for code in FULL):  # from another process, as text
            return True
        error = error.__cause__ or error.__context__
    return False


def told(error: OSError) -> RunError:
    """Returns an error of a full disk in words."""
    where = f" ({error.filename})" if error.filename else ""
    lines = str(error).strip().splitlines() or [""]
    reason = f"the disk is full, or a quota is used up: {error.strerror or lines[-1]}{where}"
    return RunError(f"{reason}. Make room, then resume from the last checkpoint")


def amount(size: int) -> str:
    """Returns bytes in words.

    >>> amount(107_000_000_000), amount(1_830_000), amount(12)
    ('107.0 GB', '1.8 MB', '12 bytes')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
