"""Manages the user's cache of models. Everything in it is whole: a directory is built beside its place, written to the
disk, then renamed. It holds its own checksums, so that a file which a power cut has shortened is noticed."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from carerl.config.check.places import check_writable
from carerl.config.reading.paths import local
from carerl.runs.files import to_disk
from carerl.types import RunError

LEFT_BEHIND_S = 3600.0

CACHE = "CARERL_CACHE"  # the variable that names the cache's place


def cache_directory() -> Path:
    """Returns ``$CARERL_CACHE/models``, or a folder of the user's cache directory. Raises ConfigError if the variable
    names no directory."""
    named = local(CACHE, os.environ.get(CACHE, ""))
    return Path(named or platformdirs.user_cache_dir("carerl")) / "models"


def check_room(target: Path, mib: float = 64) -> None:
    """Checks that a model which is not in the cache can be put there, with room for ``mib``. Raises ConfigError."""
    if not target.exists():
        check_writable(CACHE, target.parent, mib, "the model")


SLICE_S = 1.0  # of waiting for a lock, between two checks for a stop
TELL_S = 30.0  # between two messages about waiting


@contextmanager
def turn(
    target: Path,
    check: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Iterator[None]:
    """Holds the lock under which ``target`` is built. While another process has it, calls ``say`` with which one, and
    ``check``, which raises if waiting should end. May be entered again inside. Raises RunError if the file system has
    no locks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(f"{target}.lock", is_singleton=True), target.with_name(f"{target.name}.holder")
    begin = time.monotonic()
    told = -TELL_S
    while True:
        try:
            lock.acquire(timeout=SLICE_S)
            break
        except Timeout:
            check()
            waited = time.monotonic() - begin
            if waited - told >= TELL_S:
                told = waited
                say(f"waiting for {target.name}, which {_holder(holder)} is making; {waited:.0f} s so far")
        except (OSError, NotImplementedError) as error:
            place = f"{target.parent} cannot be locked ({error})"
            raise RunError(f"{place}: put the cache elsewhere, with CARERL_CACHE=/…") from error
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    """Returns which process holds a lock."""
    try:
        return note.read_text() or "another process"
    except OSError:
        return "another process"


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yields an empty directory to build ``target`` in; None if ``target`` is there by the time it is our turn.

    One process at a time builds one target; the others wait for it. Removes what a killed process left behind. The
    caller puts what it made in place with :func:`put_in_place`; the rest of the directory is removed."""
    if target.exists():  # it is whole; and others may keep the cache in a place where nobody here can write
        yield None
        return
    check_room(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with turn(target):
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
    """Renames a finished directory to its place, once all of it is on the disk. Removes ``made`` instead if another
    process was first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in [*(path for path in made.rglob("*") if path.is_file()), made]:
        to_disk(path)
    try:
        os.rename(made, target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(made)
    to_disk(target.parent)


def remove_left_behind(target: Path) -> None:
    """Removes what killed builders of ``target`` have left beside it. Writing a model takes seconds, so that what is an
    hour old belongs to nobody any more."""
    for path in target.parent.glob(f".{target.name}.*.partial"):
        if time.time() - path.stat().st_mtime > LEFT_BEHIND_S:
            shutil.rmtree(path, ignore_errors=True)
