"""Runs in the processes of :mod:`~carerl.grading.pool`.

``python -m carerl.grading.pool_worker FD MIB SECONDS`` is the nursery. It imports the graders, warms up the parser, and
then obeys the socket FD: it forks a worker that serves on the descriptor sent along, or ends a worker and reports how
it ended. A worker answers chunks of requests, one message each, in order.
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
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from carerl.grading import GRADERS, Gold, LimitError
from carerl.grading.pool import END, FORK, OUT_OF_MEMORY, OUT_OF_TIME, PID_MESSAGE, read_exactly
from carerl.grading.votes import same, vote

_PR_SET_PDEATHSIG = 1


def nursery(control: socket.socket, memory_mib: int, seconds: float) -> None:
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
        message, fds, _, _ = socket.recv_fds(control, PID_MESSAGE.size, 1)
        if not message:
            break
        if len(message) < PID_MESSAGE.size:
            message += read_exactly(control, PID_MESSAGE.size - len(message))
        command, pid = PID_MESSAGE.unpack(message)
        reply = int(signal.SIGKILL)
        if command == FORK:
            reply = os.fork()
            if reply == 0:
                control.close()
                worker(Connection(fds[0]), memory_mib, seconds)
            os.close(fds[0])
        elif command == END:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                reply = os.waitpid(pid, 0)[1]
        control.sendall(PID_MESSAGE.pack(command, reply))


def worker(connection: Connection, memory_mib: int, seconds: float) -> None:
    """Serves requests and never returns. Dies with the nursery."""
    code = 0
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(OUT_OF_TIME, signal.SIG_DFL)
        limit_memory(memory_mib)
        serve(connection, seconds)
    except (EOFError, OSError):
        pass  # the caller is gone
    except MemoryError:
        code = OUT_OF_MEMORY  # what the process still holds is not worth finding out
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def limit_memory(mib: int) -> None:
    """Limits address space to ``mib`` above what the process has now, and turns core files off."""
    with open("/proc/self/statm", encoding="ascii") as file:
        own = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = own + mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(connection: Connection, seconds: float) -> None:
    """Answers each request with one message, so that the caller knows which request is in progress. Raises
    MemoryError."""
    while True:
        for name, *arguments in pickle.loads(connection.recv_bytes()):
            # Counts the process's time on processors, and ends it wherever it is: no handler, no thread.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            reply: Any
            try:
                reply = FUNCTIONS[name](*arguments)
            except MemoryError:
                raise
            except Exception as error:
                reply = f"{'limit' if isinstance(error, LimitError) else 'error'}: {_described(error)}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send_bytes(json.dumps(reply).encode())


def grade(task: str, response: str, gold: Gold, truncated: bool, votes: bool) -> list[Any]:
    """Returns outcome, answer, vote and reason."""
    verdict = GRADERS[task].grade(response, gold, truncated)
    return [verdict.outcome.value, verdict.extracted, vote(task, verdict, gold) if votes else None, verdict.reason]


def compare(one: str, other: str) -> list[Any]:
    return [same(one, other)]


def _described(error: Exception) -> str:
    text = str(error) if isinstance(error, LimitError) else f"{type(error).__name__}: {error}"
    return text[:200]


FUNCTIONS: dict[str, Callable[..., list[Any]]] = {"grade": grade, "compare": compare}


if __name__ == "__main__":
    nursery(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3]))
