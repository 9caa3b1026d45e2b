"""The user's cache of models. What is in it is whole: a directory is built beside its place, written to the disk and
renamed into it, and its checksums lie in it, so that a file that a power cut has shortened is noticed."""

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
    """Return ``$CARERL_CACHE/models``, else that of the user's cache directory. Raises ConfigError for what is no
    directory."""
    named = local(CACHE, os.environ.get(CACHE, ""))
    return Path(named or platformdirs.user_cache_dir("carerl")) / "models"


def check_room(target: Path, mib: float = 64) -> None:
    """Find out whether a model that is not in the cache can be put there, with room for ``mib``. Raises ConfigError."""
    if not target.exists():
        check_writable(CACHE, target.parent, mib, "the model")


SLICE_S = 1.0  # of waiting for a lock, between two looks at a stop
TELL_S = 30.0  # between two messages that it is waited for


@contextmanager
def turn(
    target: Path,
    check: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Iterator[None]:
    """Holds the lock under which ``target`` is built. While another process has it, ``say`` is told which, and
    ``check`` is called, which raises where waiting should end. May be entered again inside. Raises RunError where the
    file system has no locks."""
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
            raise RunError(f"{place}: put the cache elsewhere, by CARERL_CACHE=/…") from error
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        return note.read_text() or "another process"
    except OSError:
        return "another process"


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
    """Rename a finished directory to its place, once all of it is on the disk, unless that is there by now; then
    ``made`` is removed."""
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
    """Remove what builders of ``target`` that were killed have left beside it. A finished model is in place seconds
    after it was begun to be written, so that what is an hour old is nobody's any more."""
    for path in target.parent.glob(f".{target.name}.*.partial"):
        if time.time() - path.stat().st_mtime > LEFT_BEHIND_S:
            shutil.rmtree(path, ignore_errors=True)
