r"""Graders in child processes that can be ended: whatever an answer does, it is bounded in time and memory.

Why not a pool of the standard library: ``multiprocessing.Pool`` hangs when a child is killed, and
``concurrent.futures`` gives up all of its work; neither can end one task. Timeouts inside a process are signals or
threads, which native code does not obey.

    caller --- nursery (imports the graders once, one thread, forks) --- workers (grade)

The nursery is a fresh interpreter, so that nothing forks a process with threads, and nothing of the caller's
``__main__`` is imported. It forks a worker in milliseconds, which makes it cheap to end one. It and its workers end
when the caller's end of their sockets closes, however the caller ended; signals of the terminal do not reach them.

Limits per answer: wall time (``seconds``) and memory above the worker's own (``memory_mib``, RLIMIT_AS). An answer that
exceeds one, or that its worker dies of, is INVALID; the rest of its chunk goes to another worker. Lengths, digits,
exponents and depth are the graders' own limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
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

from carerl.tasks.grading import Gold, Verdict, clip
from carerl.types import Outcome, RunError

CHUNK = 32  # answers sent to a worker at a time
START_SECONDS = 300.0  # for the nursery's imports, on a machine under load
MAX_RESTARTS = 3  # of the nursery in one call
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CARERL_ABSTENTION_MODEL")
_FORK, _END = b"F", b"E"
_PID = struct.Struct("!cq")


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to grade: a name of :data:`~carerl.tasks.grading.GRADERS`, and its grader's arguments."""

    task: str
    response: str
    gold: Gold
    truncated: bool = False


@dataclass(slots=True)
class _Worker:
    pid: int
    connection: Connection
    chunk: deque[int]  # indices not yet answered, the first of them in progress
    since: float = 0.0  # when the one in progress began


class GraderPool:
    """A persistent pool. Thread-safe (calls take turns), and made anew in a process forked from its owner.

    >>> with GraderPool(workers=2) as pool:  # doctest: +SKIP
    ...     pool.grade([Job("math", r"\\boxed{7}", Gold(("7",)))])[0].outcome
    <Outcome.CORRECT: 'correct'>
    """

    def __init__(self, workers: int = 1, seconds: float = 5.0, memory_mib: int = 1024) -> None:
        if workers < 1 or seconds <= 0 or memory_mib < 1:
            raise ValueError("workers, seconds and memory_mib must be positive")
        self.seconds = seconds
        self._count = workers
        self._memory_mib = memory_mib
        self._lock = threading.RLock()
        self._nursery: _Nursery | None = None
        self._workers: list[_Worker] = []
        self._owner = os.getpid()

    def grade(self, jobs: Sequence[Job], progress: Callable[[int], None] | None = None) -> list[Verdict]:
        """Verdicts in the order of the jobs. ``progress`` is called with the number done since the last call.

        Raises RunError if no worker can be started. An interrupt ends the workers and goes on to the caller.
        """
        with self._lock:
            if self._owner != os.getpid():  # forked: those processes are the parent's
                self._nursery, self._workers, self._owner = None, [], os.getpid()
            try:
                return self._grade(jobs, progress)
            except BaseException:
                self.close()  # what the workers are at is not known any more
                raise

    def _grade(self, jobs: Sequence[Job], progress: Callable[[int], None] | None) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        waiting = deque(range(len(jobs)))
        size = max(1, min(CHUNK, -(-len(jobs) // (4 * self._count))))
        restarts = 0
        while len(verdicts) < len(jobs):
            before = len(verdicts)
            try:
                self._fill(jobs, waiting, size)
            except (OSError, EOFError) as error:  # the nursery is gone, by no answer's fault
                restarts += 1
                for worker in self._workers:
                    waiting.extendleft(reversed(worker.chunk))
                self.close()
                if restarts > MAX_RESTARTS:
                    raise RunError(f"the grader processes cannot be kept running: {error}") from error
                continue
            limit = min(worker.since for worker in self._workers if worker.chunk) + self.seconds
            wait([w.connection for w in self._workers if w.chunk], max(0.0, limit - time.monotonic()))
            for worker in [w for w in self._workers if w.chunk]:
                alive = self._receive(worker, verdicts)
                if alive and not (worker.chunk and time.monotonic() - worker.since > self.seconds):
                    continue
                if worker.chunk and self._nursery is not None and self._nursery.alive():
                    verdicts[worker.chunk.popleft()] = Verdict(Outcome.INVALID, None)
                waiting.extendleft(reversed(worker.chunk))
                self._end(worker)
            if progress is not None and len(verdicts) > before:
                progress(len(verdicts) - before)
        return [verdicts[k] for k in range(len(jobs))]

    def _fill(self, jobs: Sequence[Job], waiting: deque[int], size: int) -> None:
        """Gives every worker something to do, and starts those that are missing."""
        while waiting:
            worker = next((w for w in self._workers if not w.chunk), None)
            if worker is None:
                if len(self._workers) == self._count:
                    return
                if self._nursery is None:
                    self._nursery = _Nursery(self._memory_mib)
                pid, connection = self._nursery.fork()
                worker = _Worker(pid, connection, deque())
                self._workers.append(worker)
            chunk = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            own = [(j.task, clip(j.response), j.gold, j.truncated) for j in (jobs[k] for k in chunk)]
            try:
                worker.connection.send_bytes(pickle.dumps(own))
            except OSError:  # it died while it was idle
                waiting.extendleft(reversed(chunk))
                self._end(worker)
                if self._nursery is None or not self._nursery.alive():
                    raise
                continue
            worker.chunk, worker.since = deque(chunk), time.monotonic()

    def _receive(self, worker: _Worker, verdicts: dict[int, Verdict]) -> bool:
        """Takes the answers that have arrived; False if no more will come."""
        try:
            while worker.chunk and worker.connection.poll():
                outcome, extracted = json.loads(worker.connection.recv_bytes())
                verdicts[worker.chunk.popleft()] = Verdict(Outcome(outcome), extracted)
                worker.since = time.monotonic()
        except (EOFError, OSError):
            return False
        return True

    def _end(self, worker: _Worker) -> None:
        worker.connection.close()
        self._workers.remove(worker)
        if self._nursery is not None:
            with contextlib.suppress(OSError, EOFError):
                self._nursery.end(worker.pid)

    def pids(self) -> list[int]:
        """The processes alive now, the nursery first."""
        return ([self._nursery.pid] if self._nursery else []) + [worker.pid for worker in self._workers]

    def close(self) -> None:
        """Ends all processes; the next call of :meth:`grade` starts new ones."""
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
    """The process that forks workers. Started on demand, in a session of its own."""

    def __init__(self, memory_mib: int) -> None:
        ours, theirs = socket.socketpair()
        # What an answer could make the parser do is done without the caller's secrets.
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-P", "-m", "carerl.backends.grader_worker", str(theirs.fileno()), str(memory_mib)]
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
            socket.send_fds(self._socket, [_PID.pack(_FORK, 0)], [theirs.fileno()])
        _, pid = _PID.unpack(_exactly(self._socket, _PID.size))
        return pid, Connection(ours.detach())

    def end(self, pid: int) -> None:
        """Kills and reaps one of its workers: only their parent can know that a pid is still theirs."""
        self._socket.sendall(_PID.pack(_END, pid))
        _exactly(self._socket, _PID.size)

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


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the grader process ended")
        data += part
    return data
