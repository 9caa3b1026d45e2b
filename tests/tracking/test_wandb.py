"""W&B: the same names and steps, no secrets, and never a reason for a run to stop or wait.

Offline runs are real ones, read back from their file. Not covered: a server's side (rewinding a run online, a sync):
there is none here; that the whole loop logs what it should is in tests/e2e/test_pipeline.py.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from carerl.metrics.table import GROUPS
from carerl.report import reliability_pictures
from carerl.runs.directory import RunDirectory
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import write_evaluation, write_rollouts
from carerl.tracking import wandb_content, wandb_library
from carerl.tracking.trackers import make_trackers as trackers_of
from carerl.tracking.wandb import WandbTracker
from carerl.tracking.wandb_content import WandbSettings
from carerl.tracking.workspace import declared_names
from tests.runs.synthetic_runs import FakeEvaluation, bins
from tests.tracking.wandb_log import history, of_kind, read_log

make_trackers = functools.partial(trackers_of, pictures=reliability_pictures)  # as a run has them
CONFIG = {
    "recipe": "care_grpo_tiny",
    "description": "a description with hf_abcdefghijklmnopqrst in it",
    "kind": "rl",
    "seed": 3,
    "algorithm": {"name": "grpo"},
    "regularizer": {"name": "srkl", "alpha": 0.8},
    "task": {"name": "tiny", "api_key": "sk-abcdef", "data": "https://me:xyzzy4711@store/x"},
    "cluster": {"address": "ray://inner-host:10001"},
    "tracking": {"wandb": "offline", "wandb_project": "carerl-test", "wandb_rollout_rows": 2},
}
SECRETS = (
    "sk-abcdef", "xyzzy4711", "inner-host", "hf_abcdefghijklmnopqrst", "nobodys-business",
    "wandbkeywandbkeywandbkeywandbkeywandbkey1", "planted.in.the.environment",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _clean_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    wandb.teardown()  # it reads its environment once per process
    monkeypatch.setattr(wandb_content, "SOURCE_ENDINGS", (".typed",))  # two hundred files a run take their time
    yield
    for name in wandb_library._set_here:
        os.environ.pop(name, None)
    wandb_library._set_here.clear()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(tmp_path, "care_grpo_tiny", 3)
    run.write_config(yaml.safe_dump(CONFIG))
    run.write_versions()
    return run


def step_of(run: RunDirectory, trackers: Any, step: int, value: float | None = None) -> None:
    """What the loop does in a step, in its order: the row, the rollout table, the evaluation with its own row."""
    row = {name: (step + k / 100 if value is None else value) for k, name in enumerate(sorted(declared_names()))}
    trackers.log(step, {name: x for name, x in row.items() if not name.startswith(("eval/", "calibration/"))})
    if step % 2 == 0:
        text = {"prompt": "Q", "response": f"see https://x/?token=nobodys-business and {'y' * 3000}", "gold": "4"}
        rows = [{"step": step, "example_id": f"e{k}", "sample": k, "reward": 1.0, **text} for k in range(5)]
        write_rollouts(run.rollout_file(step), rows)
        metrics = {name: x for name, x in row.items() if name.startswith(("eval/", "calibration/"))}
        write_evaluation(run.evaluations, step, FakeEvaluation(metrics, {"facts": bins(0.02)}))
        trackers.log(step, metrics | {"time/evaluate": 2.0})


def log_of(run: RunDirectory) -> Path:
    (log,) = run.wandb.glob("offline-run-*/run-*.wandb")
    return log


def assert_same(logged: dict[int, dict[str, Any]], rows: list[dict[str, float]]) -> None:
    """Every metric of metrics.jsonl under its name and step, and no other number."""
    expected: dict[int, dict[str, float]] = {}
    for row in rows:
        expected.setdefault(int(row["step"]), {}).update(row)
    media = ("rollout/table/", "calibration/reliability/")
    numbers = {step: {n: v for n, v in row.items() if not n.startswith(media)} for step, row in logged.items()}
    assert numbers == expected


def test_an_offline_run_read_back_is_metrics_jsonl_and_holds_no_secret(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "wandbkeywandbkeywandbkeywandbkeywandbkey1")
    monkeypatch.setenv("HF_TOKEN", "planted.in.the.environment")
    config = CONFIG | {"model": {"path": "hub/planted.in.the.environment"}}
    warnings: list[str] = []
    trackers = make_trackers(run, config, warn=warnings.append)
    for step in range(5):
        step_of(run, trackers, step)
    trackers.close()
    assert warnings == []
    records = read_log(log_of(run))
    logged = history(records)

    rows = read_metrics(run.metrics)
    assert {name for row in rows for name in row} == {*declared_names(), "step"}
    assert_same(logged, rows)

    (started,) = of_kind(records, "run")
    assert (started.run_group, started.job_type, started.display_name) == ("grpo_tiny", "srkl", run.name)
    assert list(started.tags) == ["care_grpo_tiny", "grpo", "seed 3"]
    sent = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert set(sent) - {"_wandb"} == {
        "recipe", "method", "description", "kind", "seed", "algorithm", "regularizer", "task", "model", "versions",
    }  # fmt: skip
    assert sent["regularizer"] == {"name": "srkl", "alpha": 0.8}
    assert sent["versions"]["wandb"] == wandb.__version__ and "commit" in sent["versions"]

    axes = {metric.glob_name: metric.step_metric for metric in of_kind(records, "metric")}
    assert axes == {f"{group}/*": "step" for group in GROUPS}
    training = set(GROUPS) - {"decode"}  # of evaluations by themselves, which W&B gets none of
    assert {name.split("/")[0] for name in declared_names()} == training

    everything = b"".join(path.read_bytes() for path in run.wandb.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret.encode() not in everything, secret
    assert started.host == "-" and f'"{os.uname().nodename}"'.encode() not in everything


def test_tables_and_diagrams_stand_at_their_step(run: RunDirectory) -> None:
    trackers = make_trackers(run, CONFIG)
    for step in range(5):
        step_of(run, trackers, step)
    trackers.close()
    logged = history(read_log(log_of(run)))
    files = log_of(run).parent / "files"
    for step, row in logged.items():
        named = {name.rpartition("/")[0] for name in row if name.endswith("/path")}
        assert named == ({"rollout/table", "calibration/reliability/facts"} if step % 2 == 0 else set())
    table = json.loads((files / logged[4]["rollout/table/path"]).read_text())
    assert table["columns"] == list(wandb_content.TABLE_COLUMNS)
    assert len(table["data"]) == CONFIG["tracking"]["wandb_rollout_rows"]  # type: ignore[index]
    response = table["data"][0][table["columns"].index("response")]
    whole = f"see https://x/?token=[redacted] and {'y' * 3000}"
    assert response == f"{whole[:2000]} … ({len(whole):,} characters)"
    assert (files / logged[4]["calibration/reliability/facts/path"]).read_bytes().startswith(b"\x89PNG")


def test_no_completion_leaves_unless_asked_for(run: RunDirectory) -> None:
    trackers = make_trackers(run, CONFIG | {"tracking": {"wandb": "offline"}})
    step_of(run, trackers, 0)
    trackers.close()
    (row,) = history(read_log(log_of(run))).values()
    assert not any(name.startswith("rollout/table") for name in row)
    assert not list(run.wandb.rglob("*.table.json"))


def test_code_and_recipe_go_along_and_nothing_else(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_content, "SOURCE_ENDINGS", (".py", ".css", ".typed"))
    make_trackers(run, CONFIG).close()
    artifacts = {record.type: record for record in of_kind(read_log(log_of(run)), "artifact")}
    assert {kind: a.name for kind, a in artifacts.items()} == {"code": "carerl-code", "recipe": "recipe-care_grpo_tiny"}
    code = {entry.path: Path(entry.local_path) for entry in artifacts["code"].manifest.contents}
    package = Path(wandb_content.PACKAGE)
    assert {"carerl/controller/loops/rl.py", "carerl/report/templates/style.css", "carerl/py.typed"} <= set(code)
    assert all(path.is_relative_to(run.wandb) for path in code.values())  # as it is now, whatever happens till the sync
    assert code["carerl/run.py"].read_bytes() == (package / "run.py").read_bytes()
    recipe = {entry.path: Path(entry.local_path) for entry in artifacts["recipe"].manifest.contents}
    assert {"config.yaml", "recipes/care_grpo_tiny.yaml", "recipes/algorithm/grpo.yaml"} <= set(recipe)
    settings = yaml.safe_load(recipe["config.yaml"].read_text())
    assert settings["regularizer"] == CONFIG["regularizer"] and "cluster" not in settings


def test_source_that_git_does_not_track_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carerl"
    (package / "config").mkdir(parents=True)
    for name, text in {
        "a.py": "x = 1\n", "config/b.py": "y = 2\n", "notes.txt": "n", "big.py": "#" * (600 * 1024),
        "leak.py": 'KEY = "planted.in.the.environment"\n',
    }.items():  # fmt: skip
        (package / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    (package / "scratch.py").write_text("z = 3\n")
    (package / ".env").write_text("SECRET=1\n")
    monkeypatch.setattr(wandb_content, "PACKAGE", package)
    monkeypatch.setattr(wandb_content, "SOURCE_ENDINGS", (".py",))
    monkeypatch.setenv("HF_TOKEN", "planted.in.the.environment")
    files, left_out = wandb_content.source_files()
    assert set(files) == {"carerl/a.py", "carerl/config/b.py"}
    assert left_out == ["carerl/big.py (too large)", "carerl/leak.py (it holds a secret)"]
    monkeypatch.setattr(wandb_content, "CODE_BYTES", 7)
    assert set(wandb_content.source_files()[0]) == {"carerl/a.py"}


def test_a_users_recipe_that_git_does_not_track_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("extends: [algorithm/grpo]\n")
    monkeypatch.chdir(tmp_path)
    assert set(wandb_content.recipe_files("mine")) == {"recipes/algorithm/grpo.yaml"}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    assert set(wandb_content.recipe_files("mine")) == {"recipes/mine.yaml", "recipes/algorithm/grpo.yaml"}
    assert wandb_content.recipe_files("no_such_recipe") == {}


def test_the_last_checkpoint_goes_along_where_it_lies(run: RunDirectory) -> None:
    model = run.checkpoint_dir(4) / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (run.checkpoints / "latest").symlink_to("step_000004")
    trackers = make_trackers(run, CONFIG | {"tracking": {"wandb": "offline", "wandb_checkpoint": True}})
    step_of(run, trackers, 4)
    trackers.close()
    (artifact,) = [a for a in of_kind(read_log(log_of(run)), "artifact") if a.type == "model"]
    assert sorted(artifact.aliases) == ["latest", "step-4"]
    assert [entry.local_path for entry in artifact.manifest.contents] == [str(model / "config.json")]
    assert json.loads(artifact.metadata)["eval/accuracy"] == read_metrics(run.metrics)[-1]["eval/accuracy"]


def test_a_run_gone_on_with_has_one_id_and_the_log_of_a_run_never_stopped(run: RunDirectory) -> None:
    trackers = make_trackers(run, CONFIG)
    for step in range(6):  # the checkpoint is of step 3: 4 and 5 are lost
        step_of(run, trackers, step, value=-1.0 if step > 3 else None)
    trackers.close("interrupted")
    first = of_kind(read_log(log_of(run)), "run")[0].run_id
    for step in (4, 5):
        for file in (run.rollout_file(step), run.evaluations / f"step_{step:06d}.json"):
            file.unlink(missing_ok=True)  # as controller.checkpoints.go_back does

    again = make_trackers(run, CONFIG, resume_step=3)
    for step in range(4, 8):
        step_of(run, again, step)
    again.close()
    records = read_log(log_of(run))  # one log, whole; the other is where no sync looks
    assert of_kind(records, "run")[0].run_id == first
    logged = history(records)
    assert sorted(logged) == list(range(8))
    assert_same(logged, read_metrics(run.metrics))
    assert -1.0 not in [value for row in logged.values() for value in row.values()]
    assert [step for step, row in logged.items() if "rollout/table/path" in row] == [0, 2, 4, 6]
    assert len(list((run.wandb / "superseded").glob("offline-run-*"))) == 1


def test_two_runs_of_one_name_are_two_runs(tmp_path: Path) -> None:
    ids = set()
    for parent in ("a", "b"):
        run = RunDirectory.create(tmp_path, "r", 1, path=tmp_path / parent / "cell.beta-1-seed-1")
        tracker = WandbTracker(WandbSettings("offline", "p"), run.path, {})
        tracker.close()
        ids.add(of_kind(read_log(log_of(run)), "run")[0].run_id)
        assert json.loads((run.path / "wandb.json").read_text())["id"] in ids
    assert len(ids) == 2


def test_a_broken_table_costs_the_tables_only(run: RunDirectory) -> None:
    warnings: list[str] = []
    trackers = make_trackers(run, CONFIG, warn=warnings.append)
    run.rollouts.mkdir()
    for step in (1, 2):
        trackers.log(step, {"rollout/reward": 0.5})
        run.rollout_file(step).write_bytes(b"not parquet")
    trackers.close()
    assert len(warnings) == 1 and warnings[0].startswith("W&B goes without rollout tables")
    assert_same(history(read_log(log_of(run))), read_metrics(run.metrics))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_unreachable_server_stalls_nothing_and_leaves_an_offline_log(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, kind: str, silent_server: str
) -> None:
    # port 9 is the discard port: nobody listens
    monkeypatch.setenv("WANDB_BASE_URL", silent_server if kind == "silent" else "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    warnings: list[str] = []
    begin = time.monotonic()
    tracker = WandbTracker(WandbSettings("online", "p"), run.path, CONFIG, warn=warnings.append, patience=1.5)
    tracker.log(1, {"rollout/reward": 0.5})
    assert time.monotonic() - begin < 1.0
    while tracker.mode == "online" and time.monotonic() - begin < 60:
        time.sleep(0.05)
    tracker.close()
    assert len(warnings) == 1 and "logging offline" in warnings[0]
    records = read_log(log_of(run))
    assert history(records) == {1: {"step": 1, "rollout/reward": 0.5}}
    assert of_kind(records, "run")[0].run_id == json.loads((run.path / "wandb.json").read_text())["id"]
    assert not list(run.wandb.glob("run-*"))  # the attempt's empty log would be found by a sync


def test_without_a_key_nobody_is_asked_for_one(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(run.path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(run.path / "no-config"))
    monkeypatch.setattr(os, "isatty", lambda _: True, raising=False)
    warnings: list[str] = []
    tracker = WandbTracker(WandbSettings("online", "p"), run.path, CONFIG, warn=warnings.append, patience=5)
    tracker.log(1, {"rollout/reward": 0.5})
    deadline = time.monotonic() + 60
    while tracker.mode == "online" and time.monotonic() < deadline:
        time.sleep(0.05)
    tracker.close()
    assert len(warnings) == 1 and "wandb login" in warnings[0] and "logging offline" in warnings[0]
    assert history(read_log(log_of(run))) == {1: {"step": 1, "rollout/reward": 0.5}}


def test_closing_waits_no_longer_than_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that hangs in init: the run's end is not held up, and says where the rest lies."""
    stuck = types.SimpleNamespace(
        Settings=lambda **_: None, login=lambda **_: True, init=lambda **_: time.sleep(3), teardown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "wandb", stuck)
    warnings: list[str] = []
    tracker = WandbTracker(WandbSettings("online", "p"), tmp_path, {}, warn=warnings.append, patience=0.3)
    begin = time.monotonic()
    tracker.close("failed")
    assert time.monotonic() - begin < 1.5
    assert len(warnings) == 1 and "wandb sync" in warnings[0]
    tracker._thread.join(10)


def test_a_broken_library_is_told_once_and_the_local_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace())  # neither Settings nor init
    run = RunDirectory.create(tmp_path, "care", 3)
    warnings: list[str] = []
    trackers = make_trackers(run, CONFIG, warn=warnings.append)
    for step in range(1, 50):
        trackers.log(step, {"a": float(step)})
    trackers.close()
    assert [row["a"] for row in read_metrics(run.metrics)] == [float(step) for step in range(1, 50)]
    assert len(warnings) == 1 and "metrics.jsonl goes on" in warnings[0]


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from carerl.tracking.wandb import WandbTracker
from carerl.tracking.wandb_content import WandbSettings

def serves(process):
    try:
        return f"--pid {os.getpid()}" in (process / "cmdline").read_text(errors="replace").replace("\\0", " ")
    except OSError:  # it has ended
        return False

def children():
    return [process for process in Path("/proc").glob("[0-9]*") if serves(process)]

tracker = WandbTracker(WandbSettings("offline", "p"), sys.argv[1], {})
for step in range(3):
    tracker.log(step, {"rollout/reward": 0.5})
if sys.argv[2] == "kill":
    while not children():
        time.sleep(0.05)
    (Path(sys.argv[1]) / "service").write_text(children()[0].name)
    os.kill(os.getpid(), signal.SIGKILL)
tracker.close()
assert children() == [], "the service process is there after the last run"
"""


def run_script(directory: Path, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(directory), what]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_wandb_says_nothing_of_its_own_and_its_process_ends_with_the_run(tmp_path: Path) -> None:
    done = run_script(tmp_path, "close")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_wandbs_process_does_not_outlive_a_driver_that_is_killed(tmp_path: Path) -> None:
    done = run_script(tmp_path, "kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    service = Path("/proc", (tmp_path / "service").read_text())
    deadline = time.monotonic() + 60
    while service.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not service.exists()


def test_off_starts_no_wandb(tmp_path: Path) -> None:
    trackers = make_trackers(RunDirectory(tmp_path), {"tracking": {"wandb": "off"}})
    assert [type(tracker).__name__ for tracker in trackers.trackers] == ["JsonlTracker"]
    trackers.close()
    with pytest.raises(ValueError, match="use off, offline or online"):
        make_trackers(RunDirectory(tmp_path), {"tracking": {"wandb": "maybe"}})
