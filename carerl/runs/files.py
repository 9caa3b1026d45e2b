"""Reads and writes the small files of a run directory: whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

CHECKSUMS = "SHA256SUMS"  # as `sha256sum --check` reads it


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON object, or None when the file is missing or does not hold one. Half a surrogate pair, which JSON
    can hold and a page cannot, becomes ``?``."""
    try:
        loaded = json.loads(path.read_text())
        if "\\ud" in path.read_text().lower():
            loaded = json.loads(json.dumps(loaded, ensure_ascii=False).encode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a temporary file in the directory of ``path``, which takes its place once it is on the disk. Where writing
    fails, ``path`` stays as it was and nothing is left: half a file is of use to nobody."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb") as file:  # made here, and no link to somewhere
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # a full disk, Ctrl-C: half a file is of use to nobody
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, and makes its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())


def finite(value: Any) -> Any:
    """Returns the same structure as plain JSON: numbers that are not finite become None, numpy scalars numbers."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors
        return finite(value.tolist())
    if isinstance(value, float):
        return value if abs(value) <= sys.float_info.max else None
    return str(value)


def to_disk(path: Path) -> None:
    """Returns once a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 of every file of a directory into it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    (folder / CHECKSUMS).write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))


def changed_files(folder: Path) -> list[str]:
    """Returns the files of a directory that changed since its checksums were written; none without checksums."""
    changed, listed = [], folder / CHECKSUMS
    for line in listed.read_text(errors="replace").splitlines() if listed.is_file() else []:
        digest, _, file = line.partition("  ")
        if not (folder / file).is_file() or sha256(folder / file) != digest:
            changed.append(file)
    return changed


def sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
