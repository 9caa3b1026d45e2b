"""How a command ends: its exit code, a reader that has gone (``--help | head``), and errors that nobody foresaw."""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

from carerl.text.redaction import redact_text

GONE = 141  # 128 + SIGPIPE, as a shell reports a command whose reader has gone


endings: list[Callable[[int], object]] = []  # told the exit code before a command returns it; one may end the process


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
        if not _gone(sys.stdout) and not _gone(sys.stderr):  # another pipe: of a child, of a connection
            return _failed()
        for stream in (sys.stdout, sys.stderr):
            if _gone(stream):  # what is left in it is written at the end of the process
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return GONE
    except Exception:
        return _failed()


def _gone(stream: TextIO) -> bool:
    """Whether nobody reads any more what is written to a pipe."""
    asked = select.poll()
    asked.register(stream.fileno(), select.POLLOUT)
    return any(state & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, state in asked.poll(0))


def _failed() -> int:
    print(redact_text(traceback.format_exc()), end="", file=sys.stderr, flush=True)
    return 1
