"""Ends a run's actors, whatever state they and the cluster are in."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray

from carerl.actors.health.asking import Member
from carerl.actors.health.timeouts import in_time

KILL_S = 10.0


def end(members: Iterable[Member], actors: Iterable[Any], head_gone: bool = False) -> None:
    """Ends the actors, and raises nothing: what ended the run must not be hidden by what comes after it. Kills
    processes of this node that Ray cannot end: those that are stopped (SIGSTOP), and all of them if the head is
    gone."""
    if not head_gone:
        in_time(lambda: _end_each(list(actors)), KILL_S)
    with contextlib.suppress(Exception):
        here = ray.util.get_node_ip_address()
        for member in members:
            if member.pid and member.node == here and is_actor(member.pid) and (head_gone or is_stopped(member.pid)):
                os.kill(member.pid, signal.SIGKILL)


def _end_each(actors: list[Any]) -> None:
    for actor in actors:
        with contextlib.suppress(Exception):  # the others are ended all the same
            ray.kill(actor)


def is_actor(pid: int, proc: Path = Path("/proc")) -> bool:
    """Returns True if a process of this node is one of Ray's actors: its number may be another process's by now."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def is_stopped(pid: int, proc: Path = Path("/proc")) -> bool:
    """Returns True if SIGSTOP or a debugger holds a process of this node."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in ("T", "t")
