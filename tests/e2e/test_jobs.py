"""Runs as Ray jobs, on a head that `ray start --head` made with its defaults (its ports too, where they are free)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_grafana import gauges_asked_for
from tests.e2e.heads import RAY, ROOT, SMALL, ray_head

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


METRICS_PORT = 28080


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of its job server."""
    with ray_head(tmp_path_factory.mktemp("head"), f"--metrics-export-port={METRICS_PORT}") as found:
        yield found.jobs


def job(head: str, *words: str, timeout: float = 400, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "carerl.job", f"address={head}", f"python={sys.executable}", "patience=120"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=timeout, cwd=cwd)


def steps(run_dir: Path) -> list[int]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "train/loss" in row]


def test_a_job_stopped_in_the_middle_goes_on_at_the_next_step(head: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    words = [*SMALL, "steps=400", f"run_dir={place}", "resume=auto"]
    sent = job(head, *words, "wait=false")
    assert sent.returncode == 0, sent.stderr
    name = re.match(r"job (\S+) at", sent.stdout)
    assert name is not None
    deadline = time.monotonic() + 400
    while not (place / "checkpoints" / "latest").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    only_with_right_responses = "regularizer_coefficient_right"  # this model gives none
    asked_for = {f"ray_carerl_{name}" for name in gauges_asked_for() - {only_with_right_responses}}
    deadline = time.monotonic() + 60  # agents report every ten seconds, and by then steps have been made
    while asked_for - (scraped := gauges()).keys() and time.monotonic() < deadline:
        time.sleep(1.0)
    assert asked_for - scraped.keys() == set(), "cluster/grafana draws what is exported"
    assert scraped["ray_carerl_step"] == {("care_grpo_tiny", "run", "100")}, "labelled recipe, run and seed"
    stopped = ray_job("stop", f"--address={head}", name[1])
    assert stopped.returncode == 0, stopped.stderr
    summary = json.loads((place / "summary.json").read_text())
    done = summary["steps"]
    assert summary["status"] == "interrupted" and 0 < done < 400
    assert steps(place) == list(range(1, done + 1))
    newest = (place / "checkpoints" / "latest").resolve().name
    assert newest == f"step_{done:06d}"
    again = job(head, *words, f"steps={done + 2}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "SUCCEEDED" in again.stdout and f"after step {done}" in again.stdout
    assert steps(place) == list(range(1, done + 3)), "no step is made twice, and none is left out"
    complete = job(head, *words, f"steps={done + 2}")
    assert complete.returncode == 0 and "is complete" in complete.stdout


def test_a_job_ends_as_its_run_ends(head: str, tmp_path: Path) -> None:
    """Settings that only the cluster can refuse: exit code 2, as of the run itself."""
    (tmp_path / "thesis.txt").write_text("kept")
    refused = job(head, *SMALL, "steps=1", f"run_dir={tmp_path}")
    assert refused.returncode == 2 and "FAILED, exit code 2" in refused.stdout, refused.stdout + refused.stderr
    assert "run_dir" in refused.stdout and "reason:" in refused.stdout


def test_a_folder_that_is_sent_along_brings_its_recipes(head: str, tmp_path: Path) -> None:
    """The run starts in the folder's copy; the recipe is nowhere else."""
    recipes = tmp_path / "project" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "mine.yaml").write_text("extends: care_grpo_tiny\nsteps: 1\n")
    words = ["recipe=mine", *SMALL[1:], f"run_dir={tmp_path / 'run'}", "working_dir=."]
    done = job(head, *words, cwd=tmp_path / "project")
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps(tmp_path / "run") == [1] and "mine" in (tmp_path / "run" / "config.yaml").read_text()
    lost = job(head, *words[:-2], "runs_dir=runs", "working_dir=.", cwd=tmp_path / "project")
    assert lost.returncode == 2 and "Ray removes when the job ends" in lost.stdout


def test_a_sweep_is_a_job_and_ends_in_its_comparison(head: str, tmp_path: Path) -> None:
    sweeps = tmp_path / "project" / "recipes" / "sweeps"
    sweeps.mkdir(parents=True)
    (sweeps / "mine.yaml").write_text(json.dumps({"settings": " ".join([*SMALL[1:], "steps=1"]), "rows": [SMALL[0]]}))
    words = ["sweep=mine", "seed=100", "working_dir=."]
    done = job(head, *words, f"out={tmp_path / 'out'}", cwd=tmp_path / "project")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 cells complete" in done.stdout and (tmp_path / "out" / "compare" / "compare.html").is_file()
    lost = job(head, *words, "out=here", cwd=tmp_path / "project")
    assert lost.returncode == 2 and "Ray removes when the job ends" in lost.stdout


def test_rays_own_command_with_nothing_but_the_token(head: str, tmp_path: Path) -> None:
    command = ["python", "-m", "carerl.run", *SMALL, "steps=1", f"run_dir={tmp_path / 'run'}"]
    sent = ray_job("submit", f"--address={head}", "--", sys.executable, *command[1:])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert steps(tmp_path / "run") == [1]
    assert "3 s" in sent.stdout and "RAY_JOB_STOP_WAIT_TIME_S" in sent.stdout, "Ray's short grace is pointed out"


def ray_job(*words: str) -> subprocess.CompletedProcess[str]:
    """`ray job …` with the token where there is one, as the README has it."""
    has_token = (Path.home() / ".ray" / "auth_token").is_file()
    environment = {**os.environ, "RAY_AUTH_MODE": "token"} if has_token else None
    return subprocess.run([RAY, "job", *words], capture_output=True, text=True, timeout=300, env=environment)


def gauges() -> dict[str, set[tuple[str, ...]]]:
    """Of each of our gauges on the port that Prometheus scrapes its labels recipe, run and seed."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    found: dict[str, set[tuple[str, ...]]] = {}
    for line in lines:
        if gauge := re.match(r"(ray_carerl_\w+)\{(.*)\} ", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', gauge[2]))
            found.setdefault(gauge[1], set()).add(tuple(labels[name] for name in ("recipe", "run", "seed")))
    return found
