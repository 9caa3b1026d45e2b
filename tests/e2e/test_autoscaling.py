"""A run on a cluster whose nodes come when they are asked for, by Ray's own autoscaler and its provider of nodes that
are processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.report.jsonl import read_metrics
from tests.e2e.heads import ROOT, SMALL, Head, ray_head

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

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
