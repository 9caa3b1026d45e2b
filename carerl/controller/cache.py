"""The user's cache of models. What is in it is whole: a directory is built beside its place and renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from carerl.config.paths import local
from carerl.config.places import check_writable

CACHE = "CARERL_CACHE"  # the variable that names the cache's place


def cache_directory() -> Path:
    """Return ``$CARERL_CACHE/models``, else that of the user's cache directory. Raises ConfigError for what is no
    directory."""
    named = local(CACHE, os.environ.get(CACHE, ""))
    return Path(named or platformdirs.user_cache_dir("carerl")) / "models"


def check_room(target: Path, mib: float = 64) -> None:
    """Find out whether a model that is not in the cache can be put there, with room for ``mib``. Raises ConfigError."""
    if not target.exists():
        check_writable(CACHE, target.parent, mib, "the model")


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Give an empty directory to build ``target`` in, or None where ``target`` is there by the time it is our turn.

    One process at a time builds one target; the others wait for it. What a killed process left behind is removed. The
    caller puts what it made in place by :func:`put_in_place`; what remains of the directory is removed."""
    if target.exists():  # whole, and the place may be one that others keep and nobody here can write to
        yield None
        return
    check_room(target)
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
