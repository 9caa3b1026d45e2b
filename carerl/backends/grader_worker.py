"""What runs in the processes of :mod:`~carerl.backends.grader_pool`.

``python -m carerl.backends.grader_worker FD MIB`` is the nursery: it imports the graders, warms the parser up, and then
does what the socket FD says: fork a worker that serves on the descriptor sent along, or end one. A worker answers
chunks of jobs, one message each, in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import pickle
import resource
import select
import signal
import socket
import sys
from multiprocessing.connection import Connection

from carerl.backends.grader_pool import _END, _FORK, _PID, _exactly
from carerl.tasks.grading import GRADERS, Gold
from carerl.types import Outcome

_PR_SET_PDEATHSIG = 1


def nursery(control: socket.socket, memory_mib: int) -> None:
    """Serves until the caller's end closes, or the caller is gone."""
    parent = os.getppid()
    for response, gold in ((r"\boxed{2\pi-4}", r"-4+2\pi"), (r"\boxed{x^2-1}", "(x-1)(x+1)")):
        GRADERS["math"].grade(response, Gold((gold,)), False)
    gc.collect()
    gc.freeze()
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("the nursery has threads: forking it is not safe")
    control.sendall(b"R")
    while os.getppid() == parent:
        if not select.select([control], [], [], 1.0)[0]:
            continue
        message, fds, _, _ = socket.recv_fds(control, _PID.size, 1)
        if not message:
            break
        if len(message) < _PID.size:
            message += _exactly(control, _PID.size - len(message))
        command, pid = _PID.unpack(message)
        if command == _FORK:
            pid = os.fork()
            if pid == 0:
                control.close()
                worker(Connection(fds[0]), memory_mib)
            os.close(fds[0])
        elif command == _END:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        control.sendall(_PID.pack(command, pid))


def worker(connection: Connection, memory_mib: int) -> None:
    """Never returns. Dies with the nursery."""
    code = 0
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        limit_memory(memory_mib)
        serve(connection)
    except (EOFError, OSError):
        pass  # the caller is gone
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def limit_memory(mib: int) -> None:
    """At most so much address space above what the process has now; and no core files."""
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = own + mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(connection: Connection) -> None:
    """One message an answer, so that the caller knows which one is in progress."""
    while True:
        for task, response, gold, truncated in pickle.loads(connection.recv_bytes()):
            try:
                verdict = GRADERS[task].grade(response, gold, truncated)
                answer = verdict.outcome.value, verdict.extracted
            except MemoryError:
                os._exit(1)  # what the process still holds is not worth finding out
            except Exception:
                answer = Outcome.INVALID.value, None
            connection.send_bytes(json.dumps(answer).encode())


if __name__ == "__main__":
    nursery(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
