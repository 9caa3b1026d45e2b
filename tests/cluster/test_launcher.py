"""cluster/ray-cluster.yaml against Ray's own schema and the project's versions. Not covered: that machines come up."""

from __future__ import annotations

import inspect
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import ray
import yaml
from ray.autoscaler._private import commands

import carerl
from carerl.config.load import load
from carerl.config.plan.memory import GIB
from carerl.config.plan.plan import plan
from tests.cluster.manifests import ROOT

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


def test_the_head_is_told_of_its_workers() -> None:
    """The flag by which `ray up` recognises, in its own words, a head that would start no worker."""
    (head,) = [c for c in CONFIG["head_start_ray_commands"] if "ray start" in c]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in shlex.split(head)
    source = Path(inspect.getsourcefile(commands) or "").read_text()
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in source
    assert "The head node will not launch any workers" in source
