"""rendered/ is what kustomize makes of base, job, cluster, components and overlays.

Without kubectl only the digest is compared, which says that nothing was changed since; `make check-cluster` renders.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.manifests import KUBERAY, OVERLAYS, RENDERED, ROOT, digest, documents, tool


def test_there_is_one_rendered_file_an_overlay_and_none_is_older_than_its_sources() -> None:
    assert sorted(path.stem for path in RENDERED.iterdir()) == OVERLAYS
    for overlay in OVERLAYS:
        head = (RENDERED / f"{overlay}.yaml").read_text().splitlines()[1]
        assert head == f"# sources: sha256 {digest()}", "render again: make check-cluster"


def test_what_renders_writes_the_digest_that_is_asked_for() -> None:
    assert 'echo "# sources: sha256 $digest"\n' in (ROOT / "cluster" / "check.sh").read_text()


@pytest.mark.skipif(not tool("kubectl"), reason="no kubectl; make check-cluster installs it")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_what_is_committed(overlay: str) -> None:
    made = subprocess.run(
        [str(tool("kubectl")), "kustomize", str(KUBERAY / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (RENDERED / f"{overlay}.yaml").read_text().split("\n", 2)[2] == made


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_template_of_all_pods_is_copied_and_not_applied(overlay: str) -> None:
    kinds = [document["kind"] for document in documents(overlay)]
    assert "PodTemplate" not in kinds
    assert kinds.count("RayJob") + kinds.count("RayCluster") == 1
