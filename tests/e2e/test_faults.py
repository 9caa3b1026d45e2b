"""Each process of a real run ended or stopped, and what the run makes of it. ``make test-faults`` runs all of it.

Covered: SIGKILL and SIGSTOP of learner (one rank and two), reference, engine, grader, raylet, head and driver; a stop
that is asked for while a call is stuck. Each with its message, its exit code, its seconds and what is left over.
Not covered: more than one node; a GPU's errors.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

WORDS = [
    "recipe=care_grpo_tiny", "steps=100000", "prompts_per_step=8", "algorithm.group_size=4", "checkpoint.every=2",
    "model.base_overrides=[steps=20]", "evaluation.at_start=false", "evaluation.at_end=false", "evaluation.every=0",
    "tracking.rollouts_every=0", "tracking.display=plain", "cluster.answer_seconds=8",
]  # fmt: skip
PLAIN = "rollout.engine=hf"
RANKS = ("learner.ranks=2", "learner.cpus_per_rank=.1")
NAMES = {
    "learner": "ray::LearnerWorker", "reference": "ray::ReferenceWorker", "rollout": "ray::EngineWorker",
    "grading": "ray::GraderWorker", "raylet": "/raylet/raylet", "head": "/gcs/gcs_server",
}  # fmt: skip
ACTORS = ("learner", "reference", "rollout", "grading")


@dataclass
class Ended:
    code: int
    seconds: float
    out: str
    err: str
    run: Path
    left: list[str]  # processes of the run that are there ten seconds later


def children(of: int) -> dict[int, str]:
    """Descendants of a process, with their command lines."""
    parents, found = {}, {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                words = (place / "stat").read_text().rpartition(")")[2].split()
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if words[0] != "Z":
                parents[int(place.name)], found[int(place.name)] = int(words[1]), line
    inside = {of}
    while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
        inside |= more
    return {pid: found[pid] for pid in inside - {of} if pid in found}


def fault(place: Path, target: str, number: signal.Signals, *words: str, limit: float = 100, term: float = 0) -> Ended:
    """Sends the signal once three steps are made; SIGTERM ``term`` seconds later (0: none)."""
    run = place / "run"
    command = [sys.executable, "-m", "carerl.run", *WORDS, f"run_dir={run}", *words]
    with (
        (place / "out").open("w") as out,
        (place / "err").open("w") as err,
        subprocess.Popen(command, cwd=place, stdout=out, stderr=err) as process,
    ):
        try:
            deadline = time.monotonic() + 250
            while (run / "metrics.jsonl").exists() is False or steps(run) < 3:
                assert process.poll() is None and time.monotonic() < deadline, (place / "err").read_text()
                time.sleep(0.1)
            family = children(process.pid)
            hit = process.pid
            if target != "driver":
                hit = max(pid for pid, line in family.items() if NAMES[target] in line.split(" --")[0])
            os.kill(hit, number)
            begin = time.monotonic()
            if term:
                time.sleep(term)
                process.send_signal(signal.SIGTERM)
            code = process.wait(limit)
            seconds = time.monotonic() - begin
        finally:
            process.kill()
    deadline = time.monotonic() + 10
    while left := [line for pid, line in family.items() if _line(pid) == line]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return Ended(code, seconds, (place / "out").read_text(), (place / "err").read_text(), run, left)


def _line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def steps(run: Path) -> int:
    return sum("train/loss" in line for line in (run / "metrics.jsonl").read_text().splitlines())


def check_told(ended: Ended, who: str) -> None:
    """Few plain lines that name the actor, the cause, the remedy, the log and what is saved."""
    assert "Traceback" not in ended.err and "Traceback" not in ended.out, ended.err
    lines = ended.err.strip().splitlines()
    assert len(lines) <= 6 and any(line.startswith(f"{who} ") and " (pid " in line for line in lines), ended.err
    assert "  cause: " in ended.err and "  remedy: " in ended.err
    assert f"  log: {ended.run / 'errors.log'}" in ended.err and (ended.run / "errors.log").stat().st_size
    assert f"python -m carerl.run resume={ended.run}" in ended.err and "saved is step " in ended.err
    assert json.loads((ended.run / "summary.json").read_text())["status"] == "failed"
    assert not [line for line in ended.left if line.startswith("ray::") and "Agent" not in line], ended.left


@pytest.mark.parametrize("words", [(PLAIN,), (PLAIN, *RANKS)], ids=["one rank", "two ranks"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_of_the_learner(number: signal.Signals, words: tuple[str, ...], tmp_path: Path) -> None:
    ended = fault(tmp_path, "learner", number, *words)
    check_told(ended, "learner")
    assert ended.code == 1 and ended.seconds < 30


@pytest.mark.parametrize("target", ["reference", "rollout", "grading"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_another_actor(number: signal.Signals, target: str, tmp_path: Path) -> None:
    ended = fault(tmp_path, target, number, PLAIN)
    check_told(ended, target)
    assert ended.code == 1 and ended.seconds < 30


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_of_vllm(number: signal.Signals, tmp_path: Path) -> None:
    ended = fault(tmp_path, "rollout", number)
    check_told(ended, "rollout")
    assert ended.code == 1 and ended.seconds < 30


def test_a_stop_gets_through_while_an_engine_is_stuck(tmp_path: Path) -> None:
    ended = fault(tmp_path, "rollout", signal.SIGSTOP, PLAIN, "cluster.answer_seconds=40", term=2)
    check_told(ended, "rollout")
    assert ended.code == 143 and ended.seconds < 30, "a quarter of the time that it would have had"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_head_of_the_cluster(number: signal.Signals, tmp_path: Path) -> None:
    ended = fault(tmp_path, "head", number, PLAIN)
    assert ended.code == 143 and ended.seconds < 70
    assert "head of the Ray cluster has not answered" in ended.err and "resume it with" in ended.out
    summary = json.loads((ended.run / "summary.json").read_text())
    newest = (ended.run / "checkpoints" / "latest").resolve().name
    assert summary["status"] == "interrupted" and newest == f"step_{summary['steps']:06d}", "saved before Ray ends it"


@pytest.mark.parametrize("target", ["raylet", "driver"])
def test_a_process_whose_end_leaves_no_time_to_say_anything(target: str, tmp_path: Path) -> None:
    ended = fault(tmp_path, target, signal.SIGKILL, PLAIN)
    assert ended.code == (1 if target == "raylet" else -signal.SIGKILL) and ended.seconds < 10
    assert "the run was killed" in ended.err and f"resume={ended.run}" in ended.err
    assert not [line for line in ended.left if "Worker" in line], ended.left
