"""The user's cache of models. What is in it is whole: a directory is built beside its place and renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock


def cache_directory() -> Path:
    """Return ``$CARERL_CACHE/models``, else that of the user's cache directory."""
    return Path(os.environ.get("CARERL_CACHE") or platformdirs.user_cache_dir("carerl")) / "models"


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Give an empty directory to build ``target`` in, or None where ``target`` is there by the time it is our turn.

    One process at a time builds one target; the others wait for it. What a killed process left behind is removed. The
    caller puts what it made in place by :func:`put_in_place`; what remains of the directory is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            yield None
            return
        for left_behind in target.parent.glob(f".{target.name}.*.building"):
            shutil.rmtree(left_behind)
        partial = target.with_name(f".{target.name}.{os.getpid()}.building")
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def put_in_place(made: Path, target: Path) -> None:
    """Rename a finished directory to its place, unless that is there by now; then ``made`` is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(made, target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(made)
