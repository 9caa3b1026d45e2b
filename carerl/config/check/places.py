"""Checks, before anything starts, whether a place can be written to and has room.

No directory is made. A file without a name is written into the nearest directory that exists, and is gone again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from carerl.config.plan.host_memory import disk_bytes
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.errors import ConfigError

RUN_MIB = 64  # what a run or an evaluation writes beside checkpoints, at least: 18 MiB with all its pages in a tiny run
FILE_MIB = 1  # a page, a table


def check_writable(field: str, path: str | Path, mib: float = FILE_MIB, wants: str = "it") -> None:
    """Finds out whether a directory can be made and written to at ``path``, with room for ``mib``. Nothing stays
    behind. ``wants``: what takes the room. Raises ConfigError."""
    place = Path(path).expanduser().absolute()
    standing = _standing(field, path, place)
    try:
        with tempfile.TemporaryFile(dir=standing) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        usage = shutil.disk_usage(standing)
    except OSError as error:
        reason = f"nothing can be written into {standing}: {error.strerror or error}"
        raise ConfigError(field, str(path), reason, _elsewhere(field)) from None
    free = usage.free / 2**20
    if usage.total and free < mib:
        reason = f"there is too little room left at {standing}: {_size(free)}, and {wants} may take {_size(mib)}"
        remedy = f"make room, or {_elsewhere(field)}" + (", or write checkpoint.keep=1" if mib > 2 * RUN_MIB else "")
        raise ConfigError(field, str(path), reason, remedy)


def _standing(field: str, path: str | Path, place: Path) -> Path:
    """Returns ``place``, or the nearest directory above it that exists."""
    try:
        for folder in (place, *place.parents):
            if folder.exists():
                break
            if folder.is_symlink():
                raise ConfigError(field, str(path), f"{folder} is a link that leads nowhere", _elsewhere(field))
        if folder.is_dir():
            return folder
    except OSError as error:
        raise ConfigError(field, str(path), f"it cannot be: {error.strerror or error}", _elsewhere(field)) from None
    raise ConfigError(field, str(path), f"{folder} is a file, and a directory is wanted", _elsewhere(field))


def _elsewhere(field: str) -> str:
    if field.isupper():
        return f"set {field} to a directory that can be written to"
    return f"give another {field}" if "." in field else f"give another place by {field}=..."


def _size(mib: float) -> str:
    return f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:.2g} MiB"


def check_file(field: str, path: str | Path) -> None:
    """Calls :func:`check_writable` for the directory of a file. Raises ConfigError, with the file as it was given."""
    try:
        check_writable(field, Path(path).absolute().parent)
    except ConfigError as error:
        raise ConfigError(field, str(path), error.reason, error.remedy) from None


def run_dir_errors(c: RunConfig) -> Iterator[ConfigError]:
    """Yields an error if the directory of a new run holds something already, or is a file."""
    if not c.run_dir or c.resume:
        return
    name, folder = c.does.place, Path(c.run_dir).expanduser()
    try:
        holds = folder.is_dir() and any(folder.iterdir())
        is_file = folder.exists() and not folder.is_dir()
    except OSError as error:
        yield ConfigError(name, c.run_dir, f"it cannot be: {error.strerror or error}", _elsewhere(name))
        return
    if is_file:
        yield ConfigError(name, c.run_dir, "it is a file, and a directory is wanted", _elsewhere(name))
    elif holds and not c.does.trains:
        yield ConfigError(name, c.run_dir, "it holds something that is no evaluation", f"give another {name}=")
    elif holds:
        yield ConfigError(
            "run_dir",
            c.run_dir,
            "it exists and is not empty: two runs never share a directory",
            f"give another one, leave run_dir= out, or resume that run by resume={c.run_dir}",
        )


def check_run(config: RunConfig) -> None:
    """Finds out whether a run can write where it will, its checkpoints included. Raises ConfigError."""
    where = config.run_dir or config.runs_dir
    field = "run_dir" if config.run_dir else "runs_dir"
    needed = run_mib(config) - _written_mib(Path(where) / "checkpoints" if config.resume else None)
    check_writable(field, where, max(RUN_MIB, needed), "the run with its checkpoints")


def run_mib(config: RunConfig) -> float:
    """Returns the MiB that a run may take: its checkpoints as a plan counts them, and the least of everything else."""
    return RUN_MIB + disk_bytes(config, effective_shape(config)[0]) / 2**20


def _written_mib(folder: Path | None) -> float:
    """Returns the MiB of the files in a directory of checkpoints; 0 without one."""
    if folder is None or not folder.is_dir():
        return 0.0
    return sum(os.lstat(Path(root, name)).st_size for root, _, names in os.walk(folder) for name in names) / 2**20
