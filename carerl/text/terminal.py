"""Ends a command: with its exit code, with a reader that has gone (``--help | head``), with an unforeseen error."""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

from carerl.text.redaction import redact_text

GONE = 141  # 128 + SIGPIPE, as a shell reports a command whose reader has gone

endings: list[Callable[[int], object]] = []  # called with the exit code before it is returned; may end the process


def command(main: Callable[[], int]) -> int:
    """Runs a command and returns its exit code. A traceback is shown without secrets."""
    code = _run(main)
    for ending in endings:
        ending(code)
    return code


def _run(main: Callable[[], int]) -> int:
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _gone(sys.stdout) and not _gone(sys.stderr):  # another pipe, a child's or a connection's
            return _failed()
        for stream in (sys.stdout, sys.stderr):
            if _gone(stream):  # Python writes the rest of its buffer when the process ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return GONE
    except Exception:
        return _failed()


def _gone(stream: TextIO) -> bool:
    """Returns True if a stream is a pipe that nobody reads any more."""
    asked = select.poll()
    asked.register(stream.fileno(), select.POLLOUT)
    return any(state & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, state in asked.poll(0))


def _failed() -> int:
    print(redact_text(traceback.format_exc()), end="", file=sys.stderr, flush=True)
    return 1
