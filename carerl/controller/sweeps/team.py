"""Runs worker processes that do one job after another; none can hold up the others.

Each worker has a pipe of its own to this process and shares no lock with anybody: one that is killed in the middle of a
message does not affect the others. If a worker dies, its job is reported with what ended it, and another worker is
started. Workers end with this process, however it ends.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from carerl.actors.health.oom import oom_kills
from carerl.types import RunError

_PR_SET_PDEATHSIG = 1
READY, SAID, DONE, END = "ready", "said", "done", "end"
SLICE_S = 1.0  # between two looks at the stop flag


class Line:
    """A worker's end of its pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def jobs(self) -> Iterator[Any]:
        """Yields jobs as they come, until there are no more. The worker calls it once it can do them."""
        self._connection.send((READY, None))
        while (job := self._receive()) != END:
            yield job

    def say(self, text: str) -> None:
        """Sends a line for people to read."""
        self._connection.send((SAID, text))

    def done(self, text: str) -> None:
        """Reports that the last job has ended, as the text says."""
        self._connection.send((DONE, text))

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            return END


@dataclass
class _Member:
    """A worker process as its parent sees it."""

    process: Any
    connection: Connection
    ready: bool = False
    job: Any = None
    told: bool = False  # was told that there are no more jobs


def run_jobs(
    jobs: Sequence[Any],
    workers: int,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    heard: Callable[[str, Any, str], None],
    stopped: Callable[[], object] = lambda: False,
) -> None:
    """Has ``workers`` processes call ``target(line, *arguments)`` and do the jobs, in order.

    ``heard(kind, job, text)`` is called with what a worker says (SAID), when a job has ended (DONE), and when its
    worker has died (END, with what ended it). Once ``stopped()`` is true, no more jobs are handed out and workers get
    SIGTERM. Raises RunError if workers end before they can take a job."""
    context = multiprocessing.get_context("spawn")
    waiting, members, told = deque(jobs), [], False
    kills = oom_kills()
    try:
        members = [_start(context, target, arguments) for _ in range(min(workers, len(jobs)))]
        while members:
            if not told and stopped():
                told = True
                waiting.clear()
                for member in members:
                    member.process.terminate()
            ready = wait([member.connection for member in members], timeout=SLICE_S)
            for member in [member for member in members if member.connection in ready]:
                try:
                    kind, text = member.connection.recv()
                except (EOFError, OSError):
                    members.remove(member)
                    why = _ended(member, kills)
                    if member.job is not None and told and member.process.exitcode == 0:
                        continue  # it ended as it was told to, before it had begun the job
                    if member.job is not None:
                        heard(END, member.job, why)
                        if waiting:
                            members.append(_start(context, target, arguments))
                    elif not told and not member.told and waiting and not members:
                        raise RunError(f"no worker can take a job: {why}") from None
                    continue
                if kind == SAID:
                    heard(SAID, member.job, text)
                    continue
                if kind == DONE:
                    finished, member.job = member.job, None
                    heard(DONE, finished, text)
                if stopped():
                    waiting.clear()
                _give(member, waiting)
    except BaseException:
        for member in members:
            member.process.kill()
        raise
    finally:
        for member in members:
            member.process.join()
            member.connection.close()


def _start(context: Any, target: Callable[..., None], arguments: tuple[Any, ...]) -> _Member:
    """Starts a worker process."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, os.getpid(), target, arguments), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends with the worker
    return _Member(process, ours)


def _work(connection: Connection, parent: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Works, in the worker's process. The kernel kills it when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
    target(Line(connection), *arguments)


def _give(member: _Member, waiting: deque[Any]) -> None:
    """Sends a worker the next job, or the word that there are no more."""
    member.job = waiting.popleft() if waiting else None
    member.told = member.job is None
    with suppress(OSError):  # it has died; reading from its pipe will show that next
        member.connection.send(END if member.job is None else member.job)


def _ended(member: _Member, kills: int) -> str:
    """Returns in words what ended a worker."""
    member.process.join()
    member.connection.close()
    code = member.process.exitcode or 0
    if code >= 0:
        return f"its worker ended with exit code {code}; its own words are above"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    text = f"its worker was ended from outside by {name}"
    if -code == signal.SIGKILL:
        count = oom_kills() - kills
        text += (
            f"; meanwhile the kernel has killed {count} processes for lack of memory"
            if count > 0
            else ", as the kernel does when memory runs out, and schedulers do at a limit"
        )
        text += ": fewer workers=, or smaller settings, take less"
    return text
