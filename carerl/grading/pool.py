r"""Runs graders in child processes that can be ended, so that any answer is bounded in time and memory.

The standard library's pools cannot end a single task: ``multiprocessing.Pool`` hangs when a child is killed, and
``concurrent.futures`` gives up all of its work. Timeouts inside a process are signals or threads, which native code
ignores.

    caller --- nursery (imports the graders once, one thread, forks) --- workers (grade, compare)

The nursery is a fresh interpreter, so that no process with threads is forked, and nothing of the caller's ``__main__``
is imported. It forks a worker in milliseconds, so ending one is cheap. The nursery and its workers end when the
caller's end of their sockets closes, however the caller ended. Signals of the terminal do not reach them.

Limits for each request, which is an answer to grade or two to compare:

=========== ================================================================================================
``seconds`` of processor time, by a timer of the kernel that ends the worker in native code too. A machine that
            is stopped, or busy with other things, makes no right answer INVALID
wall time   ``WALL`` times as much, and ``WALL_LEAST`` seconds at least: the caller ends a worker that makes no
            progress
memory      ``memory_mib`` above the worker's own (RLIMIT_AS)
=========== ================================================================================================

Lengths, digits, exponents and depth are the graders' own limits. A request that exceeds its processor time is INVALID
at once. If its worker dies otherwise, or makes no progress, the request is tried once more, alone, in a fresh worker:
an answer is not blamed for what an earlier one left behind, for the system's choice of what to kill, or for a machine
that stood still. If that fails too, the answer is INVALID; a comparison that fails is no equality. The reason comes
back: ``time``, ``stalled``, ``memory``, ``crash``, ``error`` (of the grader), or the graders' own ``limit``, and after
a colon the details. The rest of a chunk goes to another worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from carerl.grading import Gold, Verdict, clip
from carerl.progress import step as count_step
from carerl.types import Outcome, RunError

CHUNK = 32  # requests sent to a worker at a time
WALL = 20.0  # times the processor time
WALL_LEAST = 60.0  # seconds
START_SECONDS = 300.0  # for the nursery's imports, on a machine under load
MAX_RESTARTS = 3  # of the nursery in one call
OUT_OF_MEMORY, OUT_OF_TIME = 3, signal.SIGPROF  # exit code and signal of a worker at its limit
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CARERL_ABSTENTION_MODEL")
# What the pool asks of its nursery, and the nursery answers: a command, and a worker's pid or its exit status.
FORK, END = b"F", b"E"
PID_MESSAGE = struct.Struct("!cq")


@dataclass(frozen=True, slots=True)
class Job:
    """Holds one answer to grade: a name of :data:`~carerl.grading.GRADERS`, and the arguments of that grader."""

    task: str
    response: str
    gold: Gold
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Graded:
    """Holds a verdict, and what the answer votes for (:func:`carerl.grading.votes.vote`)."""

    verdict: Verdict
    vote: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Says whether two votes mean the same. ``reason``: why that could not be found out, '' if it could."""

    same: bool
    reason: str = ""


_Request = tuple[Any, ...]  # what a worker is sent: its function's name and arguments


@dataclass(slots=True)
class _Worker:
    pid: int
    connection: Connection
    chunk: deque[int]  # indices not yet answered, the first of them in progress
    since: float = 0.0  # when the one in progress began


@dataclass(slots=True)
class _Call:
    """Holds the requests of one call. ``again``: those to try again, alone, in a fresh worker. ``tried``: those that
    were tried so."""

    requests: Sequence[_Request]
    waiting: deque[int]
    again: deque[int]
    tried: set[int]
    replies: dict[int, Any]
    chunk: int


class GraderPool:
    """A persistent pool of grader processes. Thread-safe (calls take turns). A process forked from its owner starts
    processes of its own.

    >>> with GraderPool(workers=2) as pool:  # doctest: +SKIP
    ...     pool.grade([Job("math", r"\\boxed{7}", Gold(("7",)))])[0].outcome
    <Outcome.CORRECT: 'correct'>
    """

    def __init__(
        self, workers: int = 1, seconds: float = 5.0, memory_mib: int = 1024, wall_seconds: float | None = None
    ) -> None:
        """Checks the limits. ``wall_seconds`` None means the wall time of the module's docstring."""
        wall = max(WALL_LEAST, WALL * seconds) if wall_seconds is None else wall_seconds
        if workers < 1 or seconds <= 0 or memory_mib < 1 or wall <= 0:
            raise ValueError("workers, seconds, memory_mib and wall_seconds must be positive")
        self.seconds = seconds
        self.wall_seconds = wall
        self._count = workers
        self._memory_mib = memory_mib
        self._lock = threading.RLock()
        self._nursery: _Nursery | None = None
        self._workers: list[_Worker] = []
        self._owner = os.getpid()

    def grade(self, jobs: Sequence[Job], progress: Callable[[int], None] | None = None) -> list[Verdict]:
        """Returns verdicts in the order of the jobs. ``progress`` is called with the number done since the last call.

        Raises RunError if no worker can be started. An interrupt ends the workers and reaches the caller.
        """
        return [graded.verdict for graded in self._graded(jobs, False, progress)]

    def grade_and_vote(self, jobs: Sequence[Job]) -> list[Graded]:
        """Grades like :meth:`grade`, and finds votes. An answer whose vote cannot be found within the limits is
        INVALID."""
        return self._graded(jobs, True, None)

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Compared]:
        """Judges whether the votes of each pair mean the same (:func:`carerl.grading.votes.same`), under the same
        limits."""
        replies = self._run([("compare", *pair) for pair in pairs], None)
        return [Compared(False, reply) if isinstance(reply, str) else Compared(*reply) for reply in replies]

    def _graded(self, jobs: Sequence[Job], votes: bool, progress: Callable[[int], None] | None) -> list[Graded]:
        requests = [("grade", j.task, clip(j.response), j.gold, j.truncated, votes) for j in jobs]
        found = []
        for reply in self._run(requests, progress):
            outcome, extracted, vote, reason = (
                (Outcome.INVALID, None, None, reply) if isinstance(reply, str) else (Outcome(reply[0]), *reply[1:])
            )
            found.append(Graded(Verdict(outcome, extracted, reason), vote))
        return found

    def _run(self, requests: Sequence[_Request], progress: Callable[[int], None] | None) -> list[Any]:
        """Returns a reply for each request: a list, or the reason why there is none."""
        with self._lock:
            if self._owner != os.getpid():  # forked: those processes are the parent's
                self._nursery, self._workers, self._owner = None, [], os.getpid()
            size = max(1, min(CHUNK, -(-len(requests) // (4 * self._count))))
            call = _Call(requests, deque(range(len(requests))), deque(), set(), {}, size)
            try:
                self._serve(call, progress)
            except BaseException:
                self.close()  # what the workers are at is not known any more
                raise
            return [call.replies[k] for k in range(len(requests))]

    def _serve(self, call: _Call, progress: Callable[[int], None] | None) -> None:
        restarts = 0
        while len(call.replies) < len(call.requests):
            before = len(call.replies)
            try:
                self._fill(call)
            except (OSError, EOFError) as error:  # the nursery is gone, by no answer's fault
                restarts += 1
                for worker in self._workers:
                    call.waiting.extendleft(reversed(worker.chunk))
                self.close()
                if restarts > MAX_RESTARTS:
                    raise RunError(f"the grader processes cannot be kept running: {error}") from error
                continue
            busy = [worker for worker in self._workers if worker.chunk]
            limit = min(worker.since for worker in busy) + self.wall_seconds
            wait([worker.connection for worker in busy], max(0.0, limit - time.monotonic()))
            for worker in busy:
                alive = self._receive(worker, call)
                stalled = bool(worker.chunk) and time.monotonic() - worker.since > self.wall_seconds
                if not alive or stalled:
                    self._lose(worker, call, stalled)
            if len(call.replies) > before:
                count_step()
            if progress is not None and len(call.replies) > before:
                progress(len(call.replies) - before)

    def _lose(self, worker: _Worker, call: _Call, stalled: bool) -> None:
        """Ends a worker that is dead or makes no progress, and decides what becomes of the request that it was working
        on."""
        status = self._end(worker)
        if worker.chunk and self._nursery is not None and self._nursery.alive():
            index = worker.chunk.popleft()
            if index in call.tried or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == OUT_OF_TIME):
                call.replies[index] = self._reason(status, stalled)
            else:
                call.tried.add(index)
                call.again.append(index)
        call.waiting.extendleft(reversed(worker.chunk))

    def _reason(self, status: int, stalled: bool) -> str:
        if stalled:
            return f"stalled: no answer within {self.wall_seconds:g} s"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == OUT_OF_TIME:
                return f"time: more than {self.seconds:g} s of processor time"
            return f"crash: the process ended by {signal.Signals(number).name}"
        if os.WEXITSTATUS(status) == OUT_OF_MEMORY:
            return f"memory: more than {self._memory_mib} MiB"
        return f"crash: the process ended with code {os.WEXITSTATUS(status)}"

    def _fill(self, call: _Call) -> None:
        """Gives work to every idle worker, and starts missing workers."""
        while call.again or call.waiting:
            worker = None if call.again else next((w for w in self._workers if not w.chunk), None)
            if worker is None:
                if len(self._workers) == self._count and not (call.again and self._end_idle()):
                    return
                if self._nursery is None:
                    self._nursery = _Nursery(self._memory_mib, self.seconds)
                pid, connection = self._nursery.fork()
                worker = _Worker(pid, connection, deque())
                self._workers.append(worker)
            source = call.again if call.again else call.waiting
            size = 1 if call.again else call.chunk
            chunk = [source.popleft() for _ in range(min(size, len(source)))]
            try:
                worker.connection.send_bytes(pickle.dumps([call.requests[k] for k in chunk]))
            except OSError:  # it died while it was idle
                source.extendleft(reversed(chunk))
                self._end(worker)
                if self._nursery is None or not self._nursery.alive():
                    raise
                continue
            worker.chunk, worker.since = deque(chunk), time.monotonic()

    def _receive(self, worker: _Worker, call: _Call) -> bool:
        """Takes the replies that have arrived. Returns False if no more will come."""
        try:
            while worker.chunk and worker.connection.poll():
                reply = json.loads(worker.connection.recv_bytes())
                call.replies[worker.chunk.popleft()] = reply
                worker.since = time.monotonic()
        except (EOFError, OSError):
            return False
        return True

    def _end_idle(self) -> bool:
        """Makes room for a fresh worker. Returns False if all are busy."""
        idle = next((worker for worker in self._workers if not worker.chunk), None)
        if idle is not None:
            self._end(idle)
        return idle is not None

    def _end(self, worker: _Worker) -> int:
        """Ends a worker and returns its exit status; that of a kill where nothing is known."""
        worker.connection.close()
        self._workers.remove(worker)
        if self._nursery is not None:
            with contextlib.suppress(OSError, EOFError):
                return self._nursery.end(worker.pid)
        return int(signal.SIGKILL)

    def pids(self) -> list[int]:
        """Returns the processes that are alive now, the nursery first."""
        return ([self._nursery.pid] if self._nursery else []) + [worker.pid for worker in self._workers]

    def close(self) -> None:
        """Ends all processes. The next call of :meth:`grade` starts new ones."""
        with self._lock:
            for worker in list(self._workers):
                self._end(worker)
            if self._nursery is not None:
                self._nursery.close()
                self._nursery = None

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Nursery:
    """Runs the process that forks workers: started on demand, in a session of its own."""

    def __init__(self, memory_mib: int, seconds: float) -> None:
        ours, theirs = socket.socketpair()
        # What an answer could make the parser do is done without the caller's secrets.
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        settings = map(str, (theirs.fileno(), memory_mib, seconds))
        command = [sys.executable, "-P", "-m", "carerl.grading.pool_worker", *settings]
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._socket = ours
        self._finalizer = weakref.finalize(self, _stop, self._process, ours, os.getpid())
        try:
            ours.settimeout(START_SECONDS)
            if ours.recv(1) != b"R":
                raise EOFError("the grader process ended while it was loading")
            ours.settimeout(60.0)
        except BaseException:
            self.close()
            raise

    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self) -> tuple[int, Connection]:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._socket, [PID_MESSAGE.pack(FORK, 0)], [theirs.fileno()])
        _, pid = PID_MESSAGE.unpack(read_exactly(self._socket, PID_MESSAGE.size))
        return pid, Connection(ours.detach())

    def end(self, pid: int) -> int:
        """Kills and reaps one of its workers: only their parent can know that a pid is still theirs. Returns its exit
        status; if it was dead before, that of its own death."""
        self._socket.sendall(PID_MESSAGE.pack(END, pid))
        _, status = PID_MESSAGE.unpack(read_exactly(self._socket, PID_MESSAGE.size))
        return int(status)

    def close(self) -> None:
        self._finalizer()


def _stop(process: subprocess.Popen[bytes], connection: socket.socket, owner: int) -> None:
    if owner != os.getpid():
        return
    connection.close()  # the nursery's signal to end
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Reads ``size`` bytes from the nursery's socket. Raises EOFError if it closes before."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the grader process ended")
        data += part
    return data
