"""Keeps Ray's own words in a file: tracebacks of actors, what a raylet says of a dead process, where a stuck one was.

The terminal shows a few lines instead, which name the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carerl.text.redaction import redact_text

NAME = "errors.log"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ErrorLog:
    """Collects entries. They stay in memory until a person has to read one, or until there is a run directory."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._kept: list[str] = []
        self._lock = threading.Lock()

    def move_to(self, path: Path) -> None:
        """Makes this the file from now on, and writes what was kept in memory to it."""
        with self._lock:
            self._path = path
            self._flush()

    def write(self, title: str, text: str) -> str:
        """Adds an entry, without secrets, and returns the file's path; '' if the file cannot be written: that must not
        hide the error which is reported."""
        self.note(title, text)
        with self._lock:
            if self._path is None:
                handle, name = tempfile.mkstemp(prefix="carerl-", suffix=f"-{NAME}")  # readable by its owner alone
                os.close(handle)
                self._path = Path(name)
            return str(self._path) if self._flush() else ""

    def note(self, title: str, text: str) -> None:
        """Adds an entry that no message refers to. Creates no file if there is no run directory yet."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with self._lock:
            self._kept.append(f"==== {stamp} {title}\n{redact_text(_COLOURS.sub('', text)).rstrip()}\n\n")
            if self._path is not None:
                self._flush()

    def _flush(self) -> bool:
        """Writes what is kept in memory; returns False if it cannot."""
        if not self._kept:
            return True
        assert self._path is not None
        try:
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.writelines(self._kept)
        except OSError:
            return False
        self._kept.clear()
        return True


@contextmanager
def raylets_words(log: ErrorLog) -> Iterator[None]:
    """Writes what raylets say of dead processes to the log, for the length of the block; Ray would print it. Ray has no
    setting for it: a version in which its function has another name still prints."""
    from ray._private import worker

    original: Callable[..., Any] | None = getattr(worker, "print_to_stdstream", None)
    if original is None:
        yield
        return

    def kept(batch: Any, *rest: Any, **named: Any) -> None:
        if isinstance(batch, dict) and batch.get("pid") == "raylet":
            log.note("a raylet says", "\n".join(map(str, batch.get("lines") or [])))
        else:
            original(batch, *rest, **named)

    worker.print_to_stdstream = kept
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError):
            worker.print_to_stdstream = original
