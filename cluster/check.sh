#!/usr/bin/env bash
# Puts kubectl, hadolint and shellcheck into .tools/bin (cluster/tools.txt), renders the overlays of cluster/kuberay into
# cluster/kuberay/rendered, and runs the tests of this folder with them.
#
#   KUBERAY_CRDS=DIR cluster/check.sh     with KubeRay's published CRDs as well: DIR holds ray.io_rayjobs.yaml and
#                                         ray.io_rayclusters.yaml (of KubeRay, ray-operator/config/crd/bases)
#
# Needs the set-up environment (`make setup`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
tools=.tools
say() { printf 'check-cluster: %s\n' "$*"; }
[ -x $python ] || { echo "check-cluster: no $python; run 'make setup' first" >&2; exit 1; }

wanted=$(cat cluster/tools.txt cluster/check.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat $tools/.setup-stamp 2>/dev/null)" != "$wanted" ]; then
    say "installing the tools of cluster/tools.txt"
    rm -rf $tools
    mkdir -p $tools/bin
    .venv/bin/uv pip install --quiet --python $python --no-deps --target $tools/packages -r cluster/tools.txt ||
        $python -m pip --disable-pip-version-check install --quiet --no-deps --target $tools/packages -r cluster/tools.txt
    # The two linters are scripts of their packages. kubectl lies in a zip in a tar in its package.
    cp $tools/packages/bin/hadolint $tools/packages/bin/shellcheck $tools/bin/
    $python - $tools <<'PYTHON'
import io, sys, tarfile, zipfile
from pathlib import Path

tools = Path(sys.argv[1])
(archive,) = (tools / "packages").rglob("lambda-layer-kubectl*.tgz")
with tarfile.open(archive) as outer:
    layer = outer.extractfile("package/lib/layer.zip")
    assert layer is not None
    kubectl = zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl")
(tools / "bin" / "kubectl").write_bytes(kubectl)
PYTHON
    chmod +x $tools/bin/*
    rm -rf $tools/packages
    echo "$wanted" >$tools/.setup-stamp
fi

# The sources' digest stands in each file, so that the tests notice a file that is older, without kubectl too.
digest=$(PYTHONPATH=. $python -c 'from tests.cluster.manifests import digest; print(digest())')
mkdir -p cluster/kuberay/rendered
for overlay in cluster/kuberay/overlays/*/; do
    out=cluster/kuberay/rendered/$(basename "$overlay").yaml
    {
        echo "# Made by make check-cluster (kubectl kustomize) from cluster/kuberay/overlays/$(basename "$overlay"). Do not edit."
        echo "# sources: sha256 $digest"
        $tools/bin/kubectl kustomize "$overlay"
    } >"$out.partial"
    mv "$out.partial" "$out"
done
say "rendered $(find cluster/kuberay/rendered -name '*.yaml' | wc -l) overlays with $($tools/bin/kubectl version --client | paste -sd' ')"

say "tests/cluster"
exec $python -m pytest tests/cluster "$@"
