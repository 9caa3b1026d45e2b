"""Ray heads as `ray start --head` makes them, each for the length of a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))
ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "recipe=care_grpo_tiny", "prompts_per_step=4", "algorithm.group_size=4", "model.base_overrides=[steps=20]",
    "task.evaluation_questions=10", "task.evaluation_facts=10", "task.evaluation_unknown=10", "evaluation.samples=2",
    "checkpoint.every=1", "evaluation.every=0", "tracking.rollouts_every=0",
]  # fmt: skip


@dataclass(frozen=True)
class Head:
    address: str  # of the cluster
    jobs: str  # of its job server
    log: Path


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def ray_head(place: Path, *options: str, port: int = 0, environment: Mapping[str, str] | None = None) -> Iterator[Head]:
    """With Ray's own ports where they are free and none is given; else with some outside those of Ray's workers. The
    second process of the tests always takes others. The agent's port is free in any case: jobs need the agent, and a
    cluster of another test may hold its own port."""
    second = os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0"
    taken = port or second or not (_free(6379) and _free(8265))
    port, jobs = (port or 26379 + second, 28265 + second) if taken else (6379, 8265)
    options = ("--dashboard-agent-listen-port=0", *options)
    if taken:
        options = (f"--port={port}", f"--dashboard-port={jobs}", *options)
    variables = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        **(environment or {}),
    }
    log = place / "head.log"
    with _started(log, variables, "--head", *options) as process:
        deadline = time.monotonic() + 90
        while _free(port) and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs}", log)


@contextmanager
def ray_node(head: Head, place: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Another node of a head's cluster, on this machine too. It has joined once Ray counts it: whoever needs it waits
    for that."""
    variables = {**os.environ, **(environment or {})}
    with _started(place / "node.log", variables, f"--address={head.address}", *options):
        yield


@contextmanager
def _started(log: Path, variables: Mapping[str, str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "w") as file:
        process = subprocess.Popen(
            [RAY, "start", "--block", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
