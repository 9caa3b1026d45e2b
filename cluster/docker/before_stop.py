"""What a pod does before it is stopped: it has the run save, and waits until it has.

Kubernetes sends SIGTERM to a container's first process, `ray start`, which takes the run down unsaved. This is the
preStop hook that comes before: on the head SIGTERM goes to every driver (``carerl run`` and the like), which
finishes its step, saves and exits; on a worker with actors Ray is told that its node will go, on which their drivers do
the same, and the actors' end is waited for. Standard library and Ray's command only, Linux only, and for containers
only: it does not ask whose processes these are.

    python before_stop.py SECONDS
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VERBS = ("run", "sweep", "evaluate")


def processes(proc: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and command line of every process of a /proc directory; those without a command line left out."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            except OSError:  # it has ended meanwhile
                continue
            if words != [b""]:
                yield int(entry.name), [word.decode(errors="replace") for word in words]


def drivers(proc: Path) -> set[int]:
    """Returns the interpreters that carry out one of VERBS. Not the shell above one, which would die at once and take
    the job's status with it."""
    return {number for number, words in processes(proc) if "python" in Path(words[0]).name and _verb(words) in VERBS}


def _verb(words: list[str]) -> str:
    """Returns the verb of ``python -m carerl.run``, ``python -m carerl run`` or ``python /…/bin/carerl run``."""
    for before, word, after in zip(words, words[1:], [*words[2:], ""], strict=False):
        if before == "-m" and word.startswith("carerl."):
            return word.removeprefix("carerl.")
        if (before == "-m" and word == "carerl") or (before is words[0] and Path(word).name == "carerl"):
            return after
    return ""


def actors(proc: Path) -> set[int]:
    """Ray's workers call themselves ``ray::`` and what they do; an idle one has nothing to save."""
    return {
        number
        for number, words in processes(proc)
        if words[0].startswith("ray::") and not words[0].startswith("ray::IDLE")
    }


def alive(numbers: set[int], proc: Path) -> set[int]:
    """Those that run. A zombie has ended, whether or not somebody has asked for its exit code."""
    left = set()
    for number in numbers:
        try:
            state = (proc / str(number) / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if state not in "ZX":
            left.add(number)
    return left


def drain_command(proc: Path, seconds: float) -> list[str]:
    """What tells the cluster that the node of this pod's raylet will be gone after ``seconds``; empty without one."""
    for _, words in processes(proc):
        if Path(words[0]).name == "raylet":
            options = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
            node, address = options.get("node_id"), options.get("gcs-address")
            if node and address:
                reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "its pod is being stopped"]
                deadline = ["--deadline-remaining-seconds", str(int(seconds))]
                return ["ray", "drain-node", "--address", address, "--node-id", node, *reason, *deadline]
    return []


def stop(seconds: float, proc: Path = Path("/proc")) -> bool:
    """SIGTERM to the drivers here or, where there are none but actors, word to theirs; then the wait for them; whether
    all have ended in time."""
    deadline = time.monotonic() + seconds
    told = drivers(proc)
    for number in told:
        try:
            os.kill(number, signal.SIGTERM)
        except ProcessLookupError:
            continue
    waiting = told or actors(proc)
    if waiting and not told and (command := drain_command(proc, seconds)):
        try:
            subprocess.run(command, timeout=min(60.0, seconds), check=False)
        except (OSError, subprocess.TimeoutExpired) as error:  # the wait is worth having all the same
            print(f"before_stop: {error}", file=sys.stderr)
    while waiting := alive(waiting, proc):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


if __name__ == "__main__":
    sys.exit(0 if stop(float(sys.argv[1])) else 1)
