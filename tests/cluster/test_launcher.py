"""cluster/ray-cluster.yaml against Ray's own schema and the project's versions. Not covered: that machines come up."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import ray
import yaml

import carerl
from carerl.config.load import load
from carerl.config.memory import GIB
from carerl.config.plan import plan
from tests.cluster.manifests import ROOT, all_pods, quantity

FILE = ROOT / "cluster" / "ray-cluster.yaml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text())


def test_it_is_valid_by_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(CONFIG)] == []
    assert list(validator.iter_errors(CONFIG | {"max_wokers": 2})), "a field that there is not is found"


def test_image_token_and_dashboard_are_as_everywhere() -> None:
    assert CONFIG["docker"]["image"] == f"carerl:{carerl.__version__}-ray{ray.__version__}-gpu"
    options = CONFIG["docker"]["run_options"]
    assert {"--env=RAY_AUTH_MODE=token", "--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(options)
    (head,) = [c for c in CONFIG["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in head


def test_the_command_at_its_top_resolves_and_fits_two_machines() -> None:
    comment = [line.lstrip("# ") for line in FILE.read_text().splitlines() if line.startswith("#")]
    words = shlex.split(next(line for line in comment if line.startswith("python -m carerl.run")))
    planned = plan(load([*words[3:], "dry_run=true"]))
    machines = 1 + len(CONFIG["provider"]["worker_ips"])
    assert len(planned.nodes) <= machines
    store = int(CONFIG["head_start_ray_commands"][1].split("--object-store-memory=")[1].split()[0])
    (shm,) = [o.split("=")[1] for o in CONFIG["docker"]["run_options"] if o.startswith("--shm-size")]
    assert 2 * 2 * planned.parameters.total < store < int(shm.removesuffix("g")) * GIB


def test_a_container_has_as_long_to_stop_as_a_pod() -> None:
    options = dict(o.removeprefix("--").split("=", 1) for o in CONFIG["docker"]["run_options"])
    (grace,) = {p.spec["terminationGracePeriodSeconds"] for p in all_pods() if p.role in ("head", "worker")}
    assert int(options["stop-timeout"]) == quantity(grace)
