"""Every object against Kubernetes' own schema and KubeRay's, unknown fields being errors.

KubeRay's fields come from a list kept here; where KUBERAY_CRDS names a folder with the published CRDs, every object is
checked against these, and so is the list. Not covered: what the API server computes (defaults, CEL rules) and what
KubeRay's controller refuses beyond its schema.
"""

from __future__ import annotations

import copy
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.manifests import OVERLAYS, documents

FIXTURES = Path(__file__).parent / "fixtures"
CRDS = Path(os.environ.get("KUBERAY_CRDS") or "/nonexistent")
KINDS = {
    "Namespace": "io.k8s.api.core.v1.Namespace",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "Service": "io.k8s.api.core.v1.Service",
    "StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "RayJob": "RayJob",
    "RayCluster": "RayCluster",
}


@cache
def definitions() -> dict[str, Any]:
    kubernetes = json.loads((FIXTURES / "kubernetes-1.37.json").read_text())["$defs"]
    return kubernetes | json.loads((FIXTURES / "kuberay-1.7-fields.json").read_text())["$defs"]


def check(document: Any, definition: str) -> list[str]:
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": definitions()})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay: str) -> None:
    for document in documents(overlay):
        assert check(document, KINDS[document["kind"]]) == [], document["metadata"]["name"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "backofLimit"], 2),  # a field that there is not
        (["spec", "backoffLimit"], "2"),  # of another type
        (["spec", "submissionMode"], "KubernetesJob"),
        (["spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "runAsNonRoot"], True),  # one level too high
        (["spec", "submitterPodTemplate", "spec", "containers"], [{"image": "carerl"}]),  # without its name
    ],
)
def test_what_is_wrong_is_found(path: list[str], value: Any) -> None:
    job = next(copy.deepcopy(d) for d in documents("cpu-smoke") if d["kind"] == "RayJob")
    at = job
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert check(job, "RayJob")


@cache
def published(plural: str) -> dict[str, Any]:
    """The schema of a CRD's version v1, unknown fields made errors as `kubectl apply` has them."""
    crd = yaml.load((CRDS / f"ray.io_{plural}.yaml").read_text(), Loader=yaml.CSafeLoader)
    schema = next(v for v in crd["spec"]["versions"] if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    return strict(schema)


def strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not keeps:
        made["additionalProperties"] = False
    return made


needs_crds = pytest.mark.skipif(
    not (CRDS / "ray.io_rayjobs.yaml").exists(), reason="KUBERAY_CRDS names no folder with KubeRay's CRDs"
)


@needs_crds
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_of_kuberay_is_valid_by_its_published_schema(overlay: str) -> None:
    plural = {"RayJob": "rayjobs", "RayCluster": "rayclusters"}
    for document in documents(overlay):
        if document["kind"] in plural:
            validator = jsonschema.Draft202012Validator(published(plural[document["kind"]]))
            errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
            assert errors == []


@needs_crds
@pytest.mark.parametrize(("kind", "plural"), [("RayJob", "rayjobs"), ("RayCluster", "rayclusters")])
def test_the_list_of_fields_agrees_with_the_published_schema(kind: str, plural: str) -> None:
    own, unknown = definitions(), []

    def compare(mine: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
        if (name := mine.get("$ref", "").removeprefix("#/$defs/")).startswith("io.k8s"):
            return
        mine = own[name] if name else mine
        if mine.get("type") == "array":
            return compare(mine["items"], theirs["items"], where)
        if "type" in mine and "type" in theirs and mine["type"] != theirs["type"]:
            unknown.append(f"{where}: {mine['type']}, not {theirs['type']}")
        if not set(theirs.get("required", [])) <= set(mine.get("required", [])):
            unknown.append(f"{where} requires {theirs['required']}")
        for key, value in mine.get("properties", {}).items():
            if key not in theirs.get("properties", {}):
                unknown.append(f"{where}.{key}")
            elif key != "metadata":
                compare(value, theirs["properties"][key], f"{where}.{key}")

    compare({"$ref": f"#/$defs/{kind}"}, published(plural), kind)
    assert unknown == []
