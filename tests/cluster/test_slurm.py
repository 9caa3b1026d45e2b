"""cluster/slurm.sbatch and the sizes in cluster/slurm, run by bash with stand-ins for SLURM's and Ray's commands.

Covered: what is run, and what a signal does. Not covered: SLURM itself; that Ray's nodes find each other.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.config.load import load
from carerl.config.plan.plan import plan
from tests.cluster.manifests import ROOT, documents, tool

SCRIPT = ROOT / "cluster" / "slurm.sbatch"
SIZES = {"one_gpu": (1, 1), "one_node": (1, 8), "eight_nodes": (8, 8)}  # nodes, GPUs of each
SCRIPTS = [SCRIPT, *(ROOT / "cluster" / "slurm" / f"{name}.sbatch" for name in SIZES)]

# srun runs what it is given, but for Ray's nodes, which stay until they are ended. python writes down how it was called
# as the run; told to stop, it saves and exits as carerl.run does.
STANDINS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; else echo "$@" >>"$STATE/scontrol"; fi',
    "srun": """while [[ $1 == --* ]]; do [[ $1 != --nodelist=* ]] || node=${1#--nodelist=}; shift; done
case "$1 $2" in
    "hostname --ip-address") echo 10.0.0.1 ;;
    "ray start") echo "$node: $*" >>"$STATE/nodes"; exec sleep 600 ;;
esac""",
    "ray": "exit 0",
    "python": """case "$*" in
    "-c import secrets"*) printf 0123456789abcdef ;;
    "-m carerl.run"*)
        echo "$@" >"$STATE/run"; stat -c %a "$RAY_AUTH_TOKEN_PATH" >"$STATE/token-mode"; env >"$STATE/environment"
        [ -z "${STAYS:-}" ] || { trap 'sleep .5; echo yes >"$STATE/saved"; exit 143' TERM; while :; do sleep .1; done; }
        exit "${CODE:-0}" ;;
    *) cat >/dev/null ;;
esac""",
}


class Job:
    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir()
        (folder / ".venv" / "bin").mkdir(parents=True)
        for name, body in STANDINS.items():
            path = folder / ".venv" / "bin" / name
            path.write_text(f"#!/usr/bin/env bash\n{body}\n")
            path.chmod(0o755)

    def start(self, *words: str, script: Path = SCRIPT, **environment: str) -> subprocess.Popen[str]:
        own = {"SLURM_SUBMIT_DIR": str(self.folder), "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "node[1-2]"}
        return subprocess.Popen(
            ["bash", str(script), *words],
            env={"PATH": os.environ["PATH"], "STATE": str(self.state)} | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, script: Path = SCRIPT, **environment: str) -> tuple[int, str]:
        with self.start(*words, script=script, **environment) as job:
            said, _ = job.communicate(timeout=60)
        return job.returncode, said

    def read(self, name: str) -> str:
        path = self.state / name
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    yield Job(tmp_path)


def test_the_run_lies_in_a_directory_of_its_name_and_its_code_is_the_jobs(job: Job) -> None:
    code, said = job.run("recipe=care_dapo_7b", "seed=3", CODE="2")
    expected = f"-m carerl.run recipe=care_dapo_7b seed=3 run_dir={job.folder}/runs/care_dapo_7b resume=auto"
    assert (code, job.read("run")) == (2, expected), said
    load(job.read("run").split()[2:])  # words that carerl.run takes
    job.run("recipe=care_dapo_7b", NAME="mine")
    assert job.read("run").endswith(f"run_dir={job.folder}/runs/mine resume=auto")


def test_every_node_is_started_once_with_ray_behind_a_token_that_goes_with_the_job(job: Job) -> None:
    job.run("recipe=care_dapo_7b")
    first, second = sorted(job.read("nodes").splitlines())
    assert first.startswith("node1: ray start --head --node-ip-address=10.0.0.1 ")
    assert "--dashboard-host=127.0.0.1" in first
    assert second.startswith("node2: ray start --address=10.0.0.1:")
    environment = dict(line.split("=", 1) for line in job.read("environment").splitlines() if "=" in line)
    assert environment["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in environment
    assert environment["RAY_ADDRESS"] in second
    assert job.read("token-mode") == "600"
    assert not Path(environment["RAY_AUTH_TOKEN_PATH"]).exists()


@pytest.mark.parametrize(("sent", "queued_again"), [(signal.SIGUSR1, "requeue 42"), (signal.SIGTERM, "")])
def test_a_signal_saves_and_only_the_time_limit_queues_again(job: Job, sent: signal.Signals, queued_again: str) -> None:
    with job.start("recipe=care_dapo_7b", STAYS="yes") as script:
        deadline = time.monotonic() + 60
        while not job.read("environment"):
            assert time.monotonic() < deadline and script.poll() is None
            time.sleep(0.05)
        script.send_signal(sent)  # to the script alone, as --signal=B: has it
        said, _ = script.communicate(timeout=60)
    assert (script.returncode, job.read("saved"), job.read("scontrol")) == (143, "yes", queued_again), said


def test_a_run_that_fails_after_the_warning_is_not_queued_again(job: Job) -> None:
    assert job.run("recipe=care_dapo_7b", CODE="1")[0] == 1
    assert job.read("scontrol") == ""


def header(script: Path) -> dict[str, str]:
    """What a script asks SLURM for."""
    lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    return dict(line.split("=", 1) if "=" in line else (line, "") for line in lines)


@pytest.mark.parametrize("name", SIZES)
def test_another_size_asks_for_its_own_and_does_the_same(job: Job, name: str) -> None:
    """All but the size is asked for alike: the warning before the limit, the queue, the log."""
    script = ROOT / "cluster" / "slurm" / f"{name}.sbatch"
    size = ("nodes", "gpus-per-node", "cpus-per-task", "mem", "exclusive")
    own, common = header(script), header(SCRIPT)
    assert (int(own["nodes"]), int(own["gpus-per-node"])) == SIZES[name]
    assert {k: v for k, v in own.items() if k not in size} == {k: v for k, v in common.items() if k not in size}
    assert ("exclusive" in own) == (own["gpus-per-node"] == "8"), "one GPU leaves the others to others"
    (job.folder / "cluster").symlink_to(ROOT / "cluster")  # sbatch runs a copy of its script, elsewhere
    code, said = job.run("recipe=care_grpo_tiny", "seed=3", script=script, CODE="2")
    expected = f"-m carerl.run recipe=care_grpo_tiny seed=3 run_dir={job.folder}/runs/care_grpo_tiny resume=auto"
    assert (code, job.read("run")) == (2, expected), said
    store = int(job.read("nodes").split("--object-store-memory=")[1].split()[0])
    assert store < int(own["mem"].removesuffix("G")) * 2**30 / 4


def example(script: Path) -> list[str]:
    """The words of the run that a script's own comment starts with it."""
    words = re.search(rf"sbatch cluster/(?:slurm/)?{script.name} (recipe=.+)$", script.read_text(), re.MULTILINE)
    assert words, "its comment starts a run"
    return words[1].split()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_run_that_it_names_fits_what_it_asks_for(script: Path) -> None:
    """GPUs and CPUs as Ray counts them, with every actor that needs no GPU on one node, and main memory by the plan."""
    own = header(script)
    nodes, gpus, cpus = (int(own[key]) for key in ("nodes", "gpus-per-node", "cpus-per-task"))
    planned = plan(load([*example(script), "dry_run=true"]))
    assert planned.fits and sum(node.gpus for node in planned.nodes) == nodes * gpus
    dearest = max(actor.cpus_each / actor.gpus_each for actor in planned.actors if actor.gpus_each)
    assert gpus * dearest + sum(a.count * a.cpus_each for a in planned.actors if not a.gpus_each) <= cpus
    granted = int(own["mem"].removesuffix("G"))
    assert all(node.peak <= granted for node in planned.host)


@pytest.mark.parametrize(
    ("script", "overlay"), [*((f"slurm/{name}", name.replace("_", "-")) for name in SIZES), ("slurm", "care-dapo-7b")]
)
def test_it_names_the_run_that_kubernetes_has_at_this_size(script: str, overlay: str) -> None:
    (job,) = [d for d in documents(overlay) if d["kind"] == "RayJob"]
    entrypoint = job["spec"]["entrypoint"].split()
    own = [word for word in entrypoint[3:] if not word.startswith(("run_dir=", "resume="))]
    assert example(ROOT / "cluster" / f"{script}.sbatch") == own


def test_bash_reads_them() -> None:
    assert all(subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0 for script in SCRIPTS)


@pytest.mark.skipif(not tool("shellcheck"), reason="no shellcheck; make check-cluster installs it")
def test_shellcheck_finds_nothing() -> None:
    scripts = [*SCRIPTS, *sorted((ROOT / "cluster").glob("*.sh")), ROOT / ".ci" / "run"]
    found = subprocess.run([str(tool("shellcheck")), *map(str, scripts)], capture_output=True, text=True, check=False)
    assert found.stdout == "" and found.returncode == 0
