#!/usr/bin/env bash
# Makes .peers, a folder of the packages that 'make test-peers' compares with (cluster/locks/peers-py311.txt), or
# brings it up to date; does nothing when it is.
#
# The peers need torch and transformers, which .venv has, and little else. So they lie beside it, without
# dependencies, and only PYTHONPATH=.peers lets .venv's interpreter see them: .venv stays what its lock says.
# Needs the set-up environment (`make setup`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

peers=.peers
lock=cluster/locks/peers-py311.txt
python=.venv/bin/python
uv=.venv/bin/uv

say() { printf 'peers: %s\n' "$*"; }
fail() { # fail WHAT REMEDY
    printf 'peers: %s\n  - %s\n' "$1" "$2" >&2
    exit 1
}

[ -x $uv ] || fail "there is no $uv" "run 'make setup' first"
wanted=$({ $python --version; cat $lock cluster/setup_peers.sh; } | sha256sum | cut -d' ' -f1)
if [ "$(cat $peers/.setup-stamp 2>/dev/null)" = "$wanted" ]; then
    say "$peers is up to date"
    exit 0
fi

# A package that both held would hide the one that carerl is tested with.
names() { sed -n 's/==.*//p' "$@" | LC_ALL=C sort -u; }
twice=$(LC_ALL=C comm -12 <(names $lock) <(names cluster/locks/cpu-py311.txt cluster/locks/gpu-py311.txt) | tr '\n' ' ')
[ -z "$twice" ] || fail "in $lock and in carerl's own locks: $twice" "take them out of $lock"

say "installing $(grep -c '==' "$lock") packages of $lock"
rm -rf $peers
log=$(mktemp)
trap 'rm -f "$log"' EXIT
options=(--no-deps --target "$peers" -r "$lock")
pip=("$python" -m pip --disable-pip-version-check install --no-input --no-compile)
if ! $uv pip install --python $python "${options[@]}" >"$log" 2>&1; then
    say "uv could not; trying pip"
    rm -rf $peers
    "${pip[@]}" "${options[@]}" >"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        fail "the packages of $lock could not be installed" "is the network, or your package mirror, reachable?"
    }
fi

# OpenRLHF's wheel has top-level packages called tests and scripts, which would hide the folders of these names here.
rm -rf $peers/tests $peers/scripts
$python -m compileall -q -j 0 $peers >/dev/null 2>&1 || true

printf '%s\n' "$wanted" >$peers/.setup-stamp
say "done in ${SECONDS} s: $(du -sh $peers | cut -f1)"
