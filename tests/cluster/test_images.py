"""The Dockerfile: what an image is made from, what it holds and as whom it runs.

Not covered here: that it builds. cluster/README.md says how far that was tried.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.manifests import ROOT, Pod, all_pods, tool

DOCKER = ROOT / "cluster" / "docker"
TEXT = (DOCKER / "Dockerfile").read_text()


def stages() -> dict[str, tuple[str, list[str]]]:
    """Name of each stage, what it is from, and its instructions, continued lines joined and comments left out."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, tuple[str, list[str]]] = {}
    current: list[str] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            current = []
            found[match[2]] = (match[1], current)
        elif line:
            current.append(line)
    return found


def lineage(stage: str) -> list[str]:
    """All instructions of a stage, those that it inherits first; what it only copies from is no part of it."""
    source, own = stages()[stage]
    return (lineage(source) if source in stages() else []) + own


def test_the_base_image_is_pinned_and_the_same_throughout() -> None:
    (default,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", default)
    outside = {source for source, _ in stages().values()} - stages().keys()
    assert outside == {"${PYTHON_IMAGE}"}, "packages are compiled for the Python that runs them"


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_runs_as_the_user_that_the_manifests_name(target: str) -> None:
    users = [line.split()[1] for line in lineage(target) if line.startswith("USER ")]
    (named,) = {
        f"{c['runAsUser']}:{c['runAsGroup']}"
        for pod in all_pods()
        if pod.role != "StatefulSet" and (c := pod.spec["securityContext"])
    }
    assert users[-1] == named


@pytest.mark.parametrize(("target", "tools"), [("cpu", set()), ("gpu", {"gcc", "libc6-dev"})])
def test_an_image_holds_no_build_tool_but_what_triton_compiles_with(target: str, tools: set[str]) -> None:
    installed: set[str] = set()
    for line in lineage(target):
        assert "pip install" not in line
        for words in re.findall(r"apt-get install -y --no-install-recommends ([^&|;]+)", line):
            installed |= set(words.split())
        assert "apt-get install" not in line or "rm -rf /var/lib/apt/lists" in line
    assert installed == tools | {"libgomp1", "libnuma1", "${EXTRA_PACKAGES}"}
    assert 'ARG EXTRA_PACKAGES=""' in lineage(target), "nothing beyond them unless it is asked for"
    copied = [line for line in lineage(target) if line.startswith("COPY --from=")]
    assert copied == [f"COPY --from=packages-{target} /opt/carerl /opt/carerl"]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_packages_come_from_the_lock_without_being_resolved_again(target: str) -> None:
    installs = [part for line in lineage(f"packages-{target}") for part in line.split("&&") if "pip install" in part]
    own = [part for part in installs if "/opt/tools/bin/pip install" not in part]  # the builder's uv, by the lock too
    assert own and all("--no-deps" in part for part in own)
    assert f"cluster/locks/{target}-py311.txt" in " ".join(lineage(f"packages-{target}"))


def test_nothing_that_runs_is_left_out_of_an_image() -> None:
    """What the installed packages say that they require, from the project's own requirements on: none of it is in the
    list of packages that only develop, and everything else of the lock is in that list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["cpu"]]
    needed: dict[str, set[str]] = {}
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in needed and requirement.extras <= needed[name]:
            continue
        needed.setdefault(name, set()).update(requirement.extras)
        try:
            below = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:  # left out of the lock on purpose, or of another platform
            continue
        for text in below:
            wanted = Requirement(text)
            extras = {"", *requirement.extras}
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(wanted)
    lock = (ROOT / "cluster" / "locks" / "cpu-py311.txt").read_text()
    locked = {canonicalize_name(name) for name in re.findall(r"^([^#\s=]+)==", lock, re.MULTILINE)}
    listed = set((DOCKER / "development_only.txt").read_text().split("\n")) - {""}
    develop = {canonicalize_name(name) for name in listed if not name.startswith("#")}
    assert develop & needed.keys() == set()
    assert locked - needed.keys() == develop


def test_what_is_copied_is_sent_to_the_builder_and_little_else() -> None:
    sent = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in TEXT.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert all((ROOT / word).exists() for word in copied)
    assert all(any(word == s or word.startswith(f"{s}/") for s in sent) for word in copied)
    assert all(any(word == s or word.startswith(f"{s}/") for word in copied) for s in sent)


@pytest.mark.parametrize("pod", [p for p in all_pods() if p.role in ("head", "worker")], ids=lambda p: p.where)
def test_the_hook_that_the_manifests_call_is_in_the_image(pod: Pod) -> None:
    _, script, _ = pod.spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert f"COPY cluster/docker/before_stop.py {script}" in lineage("cpu")


@pytest.mark.skipif(not tool("hadolint"), reason="no hadolint; make check-cluster installs it")
def test_hadolint_finds_nothing() -> None:
    found = subprocess.run(
        [str(tool("hadolint")), str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert found.stdout == "" and found.returncode == 0
