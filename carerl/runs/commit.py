"""Puts checkpoints and other directories on the disk: whole under their names, or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

from carerl.config.stored import STEP, committed
from carerl.runs.files import sha256, to_disk
from carerl.runs.loop_state import LoopState
from carerl.types import RunError

FORMAT = 1
READERS = 8  # files of a checkpoint that are hashed at the same time: one disk or network rarely feeds more


class NoCheckpoint(RunError):
    """There is no checkpoint to resume from."""


def commit(partial: Path, final: Path, sums: Mapping[str, str] | None = None) -> None:
    """Makes a written directory appear under its name, with a manifest of checksums, or not at all.

    ``sums``: SHA-256 of files that their writers hashed and fsynced, by their names in the directory. They are not read
    here; all others are. Raises OSError where one of them is missing."""
    sums = sums or {}
    files = {path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file()}
    if lacking := sorted(set(sums) - files):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(partial / lacking[0]))
    manifest = {name: sums.get(name) or _hashed(partial / name) for name in sorted(files)}
    with open(partial / "manifest.json", "w") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
        to_disk(folder)
    if final.exists():
        set_aside(final)
    os.rename(partial, final)
    to_disk(final.parent)


def _hashed(path: Path) -> str:
    """Returns the SHA-256 of a file, which is on the disk then."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def verify(directory: Path) -> str | None:
    """Returns why a checkpoint cannot be used, or None. Called before anything else in it is read."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
        if not isinstance(manifest, dict):
            return "manifest.json is not a mapping"
        if problem := _unbound(directory, manifest):
            return problem
        with ThreadPoolExecutor(READERS) as readers:  # hashing and reading let other threads run
            sums = readers.map(lambda name: sha256(directory / name), manifest)
            for (name, digest), found in zip(manifest.items(), sums, strict=True):
                if found != digest:
                    readers.shutdown(wait=False, cancel_futures=True)
                    return f"{name} does not match its checksum"
        state = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        return str(error)
    return _state_problem(state, directory)


def _state_problem(state: Any, directory: Path) -> str | None:
    """Returns what is wrong with a checkpoint's ``state.json``, or None."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return f"state.json is not of format {FORMAT}, which this version reads"
    step, named, loop = state.get("step"), STEP.fullmatch(directory.name), state.get("loop", {})
    if type(step) is not int or (named and int(named[1]) != step):
        return f"state.json is of step {step!r}, which is not the directory's"
    known = {field.name for field in fields(LoopState)}
    numbers = isinstance(loop, dict) and all(type(value) in (int, float) for value in loop.values())
    if not numbers or not set(loop) <= known:
        return "state.json holds a loop that this version does not know"
    return None


def _unbound(directory: Path, manifest: Mapping[str, Any]) -> str | None:
    """Returns where a manifest and its directory differ, or None. They differ by a file that only one of them has (a
    path that leads outside, by ``..`` or from the root, is never in the directory), and by a link or a device."""
    found: set[str] = set()
    for root, folders, files in os.walk(directory):
        for name in [*folders, *files]:
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.add(path.relative_to(directory).as_posix())
            elif not stat.S_ISDIR(mode):
                return f"{path.relative_to(directory)} is a link, or no file at all"
    if missing := sorted(set(manifest) - found):
        return f"{missing[0]} is in the manifest and not there"
    if unlisted := sorted(found - set(manifest) - {"manifest.json"}):
        return f"{unlisted[0]} is not in the manifest; take it out if it came there later"
    return None


def latest(checkpoints: Path, warn: Any) -> tuple[Path, dict[str, Any]]:
    """Returns the newest checkpoint that is whole, and its state. Raises NoCheckpoint."""
    for _, directory in reversed(committed(checkpoints)):
        problem = verify(directory)
        if problem is None:
            return directory, json.loads((directory / "state.json").read_text())
        warn(f"checkpoint {directory} is passed over: {problem}")
    raise NoCheckpoint(f"{checkpoints} holds no whole checkpoint")


def set_aside(directory: Path) -> Path:
    """Renames a checkpoint, so that nothing takes it for one but a person can look at it. Returns the new path."""
    names = (f"{directory.name}{again}.damaged" for again in ("", *(f".{n}" for n in range(2, 1000))))
    target = next(path for name in names if not (path := directory.with_name(name)).exists())
    os.rename(directory, target)
    return target


def numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """Returns the entries of a folder whose names match ``pattern``, by the number that is its one group, in order."""
    found = [(re.fullmatch(pattern, path.name), path) for path in folder.glob("*_*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def point(link: Path, target: Path) -> None:
    """Makes ``link`` lead to ``target``, in the same folder, atomically."""
    temporary = link.with_name(f".{link.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    os.replace(temporary, link)
