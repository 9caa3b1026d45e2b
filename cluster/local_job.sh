#!/usr/bin/env bash
# A Ray head on this machine with Ray's defaults and a token, a job on it, and the head's end: what `make job` does.
# Further words go to carerl.job; an interrupt stops the head, and with it the job.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS # of another cluster

bin=$PWD/.venv/bin
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
if answers 8265; then
  echo "make job: port 8265 is taken. If that is a Ray cluster's job server, submit to it with" >&2
  echo "  .venv/bin/python -m carerl.job recipe=care_grpo_tiny run_dir=/… $*" >&2
  exit 2
fi
export RAY_AUTH_MODE=token # Ray itself starts a head that anybody can use where there is no token
"$bin/python" -c 'from carerl.actors.cluster.access import main; raise SystemExit(main())' || exit
options=()
answers 6379 && options=(--port=0) # often Redis; any other port will do for this head

log=$(mktemp)
# --block: the processes of this head end with it, and those of other clusters on this machine do not.
# Nobody is served by it any more when it is told to end, so that it need not drain.
RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 "$bin/ray" start --head --block "${options[@]}" >"$log" 2>&1 &
head=$!

# shellcheck disable=SC2329 # called by the trap
stop_head() {
  kill "$head" 2>/dev/null
  for _ in $(seq 30); do
    kill -0 "$head" 2>/dev/null || break
    sleep 1
  done
  kill -KILL "$head" 2>/dev/null
  wait "$head" 2>/dev/null
  rm -f "$log"
}
trap stop_head EXIT

# What Ray warns of as it starts (an open cluster, a small /dev/shm, a full disk) is for people too.
tell_warnings() {
  for _ in $(seq 100); do
    grep -qE 'Ray runtime started|--block' "$log" && break
    kill -0 "$head" 2>/dev/null || break
    sleep 0.2
  done
  grep -E 'WARNING|ERROR' "$log" >&2
}
tell_warnings &

"$bin/python" -m carerl.job recipe=care_grpo_tiny runs_dir="$PWD/runs" python="$bin/python" \
    address=http://127.0.0.1:8265 patience=120 "$@"
status=$?
if ! kill -0 "$head" 2>/dev/null; then
  echo "the Ray head has ended:" >&2
  tail -n 20 "$log" >&2
fi
exit "$status"
