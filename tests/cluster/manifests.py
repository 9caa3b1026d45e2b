"""The rendered manifests of cluster/kuberay, and what the tests ask of them."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
RENDERED = KUBERAY / "rendered"
OVERLAYS = sorted(path.name for path in (KUBERAY / "overlays").iterdir())

Document = dict[str, Any]


def tool(name: str) -> str | None:
    """The path of a tool that `make check-cluster` puts into .tools, or that the machine has; None without."""
    own = ROOT / ".tools" / "bin" / name
    return str(own) if own.exists() else shutil.which(name)


def digest() -> str:
    """Of everything that the rendered files are made from."""
    total = hashlib.sha256()
    for path in sorted(KUBERAY.rglob("*")):
        if path.is_file() and RENDERED not in path.parents:
            total.update(f"{path.relative_to(KUBERAY)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


@cache
def documents(overlay: str) -> tuple[Document, ...]:
    text = (RENDERED / f"{overlay}.yaml").read_text()
    return tuple(document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document)


def all_documents() -> Iterator[tuple[str, Document]]:
    for overlay in OVERLAYS:
        for document in documents(overlay):
            yield overlay, document


@dataclass(frozen=True)
class Pod:
    """One pod template of a manifest. ``role``: head, worker, submitter or the owner's kind."""

    where: str
    role: str
    labels: dict[str, str]
    spec: Document
    replicas: int = 1
    start: dict[str, str] | None = None  # rayStartParams


def cluster_spec(document: Document) -> Document | None:
    if document["kind"] == "RayJob":
        return document["spec"]["rayClusterSpec"]
    return document["spec"] if document["kind"] == "RayCluster" else None


def pods(overlay: str) -> Iterator[Pod]:
    for document in documents(overlay):
        name = f"{overlay}: {document['kind']} {document['metadata']['name']}"
        if document["kind"] == "StatefulSet":
            template = document["spec"]["template"]
            yield Pod(name, "StatefulSet", template["metadata"]["labels"], template["spec"])
        spec = cluster_spec(document)
        if spec is None:
            continue
        head = spec["headGroupSpec"]
        labels = head["template"]["metadata"]["labels"] | {"ray.io/node-type": "head", "ray.io/group": "headgroup"}
        yield Pod(f"{name}, head", "head", labels, head["template"]["spec"], start=head["rayStartParams"])
        for group in spec["workerGroupSpecs"]:
            labels = group["template"]["metadata"]["labels"]
            labels = labels | {"ray.io/node-type": "worker", "ray.io/group": group["groupName"]}
            where = f"{name}, {group['groupName']}"
            template = group["template"]["spec"]
            yield Pod(where, "worker", labels, template, group["maxReplicas"], group["rayStartParams"])
        if "submitterPodTemplate" in document["spec"]:
            template = document["spec"]["submitterPodTemplate"]
            yield Pod(f"{name}, submitter", "submitter", template["metadata"]["labels"], template["spec"])


def all_pods() -> list[Pod]:
    return [pod for overlay in OVERLAYS for pod in pods(overlay)]


UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str | int) -> float:
    """Kubernetes' notation of amounts: "500m" is .5, "2Gi" 2 · 2^30."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]
