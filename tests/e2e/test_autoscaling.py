"""A run on a cluster whose nodes come when they are asked for, by Ray's own autoscaler and its provider of nodes that
are processes of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.runs.jsonl import read_metrics
from tests.cluster.hook import load_hook, proc_of
from tests.e2e.heads import RAY, ROOT, SMALL, Head, ray_head

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PORT = 27379
NOTHING_TO_DO = [
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
]  # fmt: skip


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head without CPUs, and up to one worker of two."""
    place = tmp_path_factory.mktemp("head")
    settings = {
        "cluster_name": "growing",
        "max_workers": 1,
        "provider": {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{PORT}"},
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 2, "object_store_memory": 200_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in NOTHING_TO_DO},
    }
    (place / "cluster.yaml").write_text(json.dumps(settings))  # JSON is YAML
    options = ["--num-cpus=0", "--include-dashboard=false", "--object-store-memory=100000000"]
    faster = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    options.append(f"--autoscaling-config={place / 'cluster.yaml'}")
    with ray_head(place, *options, port=PORT, environment=faster) as found:
        yield found


def carerl_run(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "carerl.run", *SMALL, "steps=1", f"cluster.address={head.address}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


def test_a_plan_waits_for_the_nodes_that_it_brings_up(head: Head, tmp_path: Path) -> None:
    refused = carerl_run(head, f"run_dir={tmp_path / 'refused'}")
    assert refused.returncode == 2, refused.stdout + refused.stderr + head.log.read_text()
    assert "0 CPUs" in refused.stderr and "cluster.wait_seconds=" in refused.stderr
    assert not (tmp_path / "refused").exists()
    done = carerl_run(head, f"run_dir={tmp_path / 'run'}", "cluster.wait_seconds=200")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in row] == [1]


def test_a_run_on_a_node_that_is_drained_saves(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod's preStop hook on a /proc that shows the worker's processes only: its raylet and the run's actors."""
    command = [sys.executable, "-m", "carerl.run", *SMALL, "steps=2000", f"cluster.address={head.address}"]
    words = [f"run_dir={tmp_path / 'run'}", "cluster.wait_seconds=200"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*command, *words], cwd=ROOT, text=True, **pipes) as run:  # type: ignore[call-overload]
        deadline = time.monotonic() + 300
        while not (tmp_path / "run" / "checkpoints" / "latest").exists():
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
        hook = load_hook()
        everything = dict(hook.processes(Path("/proc")))
        learners = [n for n, words in everything.items() if words[0].startswith("ray::LearnerWorker")]
        of_head = f"--gcs-address={head.address}"  # other tests' clusters have learners too
        (raylet,) = {_parent(n) for n in learners if of_head in everything.get(_parent(n), [])}
        ours = {n: words for n, words in everything.items() if n == raylet or _parent(n) == raylet}
        monkeypatch.setenv("PATH", f"{Path(RAY).parent}:{os.environ['PATH']}")
        if (Path.home() / ".ray" / "auth_token").is_file():
            monkeypatch.setenv("RAY_AUTH_MODE", "token")
        assert hook.stop(120.0, proc_of(tmp_path / "proc", ours)), "the actors have ended"
        said = run.communicate(timeout=60)[0]
    assert run.returncode == 143 and "is being drained: finishing this step and saving" in said, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    newest = (tmp_path / "run" / "checkpoints" / "latest").resolve().name
    assert newest == f"step_{summary['steps']:06d}", "of the step that was being made, not of an earlier one"


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
