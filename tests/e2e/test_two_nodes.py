"""care_grpo_tiny on two nodes, each a raylet of this machine: a rank of the learner and an engine on either.

Covered: engines beside their ranks and engines apart, with the same result. Not covered: a network between the nodes
(both have this machine's address), and GPUs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import ray
from safetensors.torch import load_file
from torch import equal

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import crew
from carerl.config.load import load
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.launch import run
from carerl.controller.models import base_model
from carerl.controller.session import Result
from carerl.tracking.display import QuietDisplay
from tests.e2e.heads import ray_head, ray_node

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# Two CPUs a node, and more than one for a rank: two ranks are on two nodes.
WORDS = [
    "recipe=care_grpo_tiny", "learner.ranks=2", "rollout.actors=2", "learner.cpus_per_rank=1.2",
    "rollout.cpus_per_actor=0.3", "prompts_per_step=4", "algorithm.group_size=4", "steps=3",
    "model.base_overrides=[steps=20]", "sync.probe_every=1", "sync.probe_mean_abort=1e-5",
    "evaluation.every=0", "evaluation.questions=6", "evaluation.samples=2", "tracking.display=quiet",
]  # fmt: skip


@dataclass
class Ran:
    """A run, and the node of each of its actors, by role and number."""

    result: Result
    nodes: dict[str, str]


def node_of(actor: Any) -> str:
    return str(ray.get_runtime_context().get_node_id())


def both_placements(address: str, place: Path) -> dict[str, Ran]:
    found = {}
    for placement in ("colocated", "disaggregated"):
        words = [f"cluster.placement={placement}", f"run_dir={place / placement}", f"cluster.address={address}"]
        config = load([*WORDS, *words])
        with cluster(config.cluster.address):
            deadline = time.monotonic() + 60
            while len(ray.nodes()) < 2 and time.monotonic() < deadline:
                time.sleep(0.2)
            with crew(config) as actors, StopFlag() as stop:
                calls = [actor.__ray_call__.remote(node_of) for actor in actors.actors]
                nodes = dict(zip(actors.names, ray.get(calls), strict=True))
                model_dir = base_model.model_directory(config, actors.learner, QuietDisplay(), stop)
                found[placement] = Ran(run(config, actors, model_dir, QuietDisplay(), stop), nodes)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """In a process of its own, which no earlier test has connected to another cluster: Ray reads once, for example,
    whether it sends tokens."""
    place = tmp_path_factory.mktemp("nodes")
    small = ["--num-cpus=2", "--object-store-memory=200000000"]
    free = {"RAY_AUTH_MODE": "disabled"}
    with (
        ray_head(place, "--include-dashboard=false", *small, port=26479, environment=free) as head,
        ray_node(head, place, *small, environment=free),
        pytest.MonkeyPatch.context() as patch,
        ProcessPoolExecutor(1, get_context("spawn")) as own,
    ):
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield own.submit(both_placements, head.address, place).result()


def rows(ran: Ran) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (ran.result.run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "system/"))} for row in found]


def test_ranks_on_two_nodes_train_with_an_engine_beside_each_or_apart(both: dict[str, Ran]) -> None:
    for ran in both.values():
        assert (ran.result.status, ran.result.step) == ("completed", 3)
        assert ran.nodes["learner 0"] != ran.nodes["learner 1"]
        probes = [row["sync/probe_max"] for row in rows(ran) if "sync/probe_max" in row]
        assert len(probes) == 4 and max(probes) < 1e-4
    nodes = both["colocated"].nodes
    assert [nodes[f"rollout {k}"] for k in range(2)] == [nodes[f"learner {k}"] for k in range(2)]


def test_where_the_engines_are_changes_no_number(both: dict[str, Ran]) -> None:
    one, other = both["colocated"], both["disaggregated"]
    assert rows(one) == rows(other)
    weights = [load_file(ran.result.run_dir / "checkpoints/latest/model/model.safetensors") for ran in (one, other)]
    assert all(equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])
