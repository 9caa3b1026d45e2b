"""Worker processes of a sweep, without Ray: real processes that are really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from carerl.controller.sweeps.team import DONE, END, SAID, Line, run_jobs
from carerl.types import RunError

ROOT = Path(__file__).resolve().parents[3]


def work(line: Line, place: str) -> None:
    """Does what a job says."""
    for job in line.jobs():
        line.say(f"begin {job}")
        if job == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "exits":
            sys.exit(3)
        if job == "floods":  # in the middle of a message
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            while True:
                line.say("x" * 10_000_000)
        if job == "waits":
            Path(place, f"{os.getpid()}.waits").touch()
            time.sleep(600)
        line.done(f"did {job}")


def never_ready(line: Line) -> None:
    raise SystemExit(4)


def ran(jobs: list[str], place: Path, workers: int = 2) -> list[tuple[str, Any, str]]:
    heard: list[tuple[str, Any, str]] = []
    run_jobs(jobs, workers, work, (str(place),), lambda kind, job, text: heard.append((kind, job, text[:200])))
    return heard


def test_every_job_is_done_and_heard_of(tmp_path: Path) -> None:
    heard = ran([f"job {k}" for k in range(7)], tmp_path)
    assert {(kind, job, text) for kind, job, text in heard if kind == DONE} == {
        (DONE, f"job {k}", f"did job {k}") for k in range(7)
    }
    assert sum(kind == SAID for kind, _, _ in heard) == 7 and not [k for k, *_ in heard if k == END]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_killed_worker_costs_its_own_job_and_leaves_a_word_of_why(tmp_path: Path, workers: int) -> None:
    heard = ran(["a", "killed", "b", "floods", "c", "exits", "d"], tmp_path, workers)
    assert {job for kind, job, _ in heard if kind == DONE} == {"a", "b", "c", "d"}
    why = {job: text for kind, job, text in heard if kind == END}
    assert set(why) == {"killed", "floods", "exits"}
    for job in ("killed", "floods"):
        assert "SIGKILL" in why[job] and "memory" in why[job]
    assert "exit code 3" in why["exits"]


def test_workers_that_cannot_start_end_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no worker can take a job: its worker ended with exit code 4"):
        run_jobs(["a", "b"], 2, never_ready, (), lambda *told: None)


def test_a_stop_gives_no_more_jobs(tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []
    stopped = lambda: bool(list(tmp_path.glob("*.waits")))  # noqa: E731
    run_jobs(["waits", "a", "b"], 1, work, (str(tmp_path),), lambda kind, job, _: heard.append((kind, job)), stopped)
    assert heard == [(SAID, "waits"), (END, "waits")]


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        from carerl.controller.sweeps.team import run_jobs
        from tests.controller.sweeps.test_team import work
        if __name__ == "__main__":
            run_jobs(["waits"] * 2, 2, work, ({str(tmp_path)!r},), lambda *told: None)
    """)
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        workers = wait_for(lambda: [int(path.stem) for path in tmp_path.glob("*.waits")], 2)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: [pid for pid in workers if not alive(pid)], 2)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(found: Any, count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(there := found()) < count:
        assert time.monotonic() < deadline, there
        time.sleep(0.05)
    return list(there)
