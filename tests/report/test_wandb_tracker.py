"""W&B: the same names, no secrets, and never a reason for a run to stop or wait."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import wandb

from carerl.report.jsonl import read_metrics
from carerl.report.run_directory import RunDirectory
from carerl.report.trackers import make_trackers
from carerl.report.wandb_tracker import WandbTracker

CONFIG = {
    "recipe": "care_grpo_tiny",
    "kind": "rl",
    "seed": 3,
    "task": {"name": "tiny", "api_key": "sk-abcdef", "data": "https://me:hunter2@store/x"},
    "cluster": {"address": "ray://inner-host:10001"},
    "tracking": {"wandb": "offline", "wandb_project": "carerl-test"},
}


@pytest.fixture(autouse=True)
def _no_wandb_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    wandb.teardown()  # it reads its environment once per process


def read_log(path: Path) -> list[Any]:
    """The records of an offline run. The file is a LevelDB log: after seven bytes of its own, blocks of
    32 KiB with chunks of checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last)."""
    deadline = time.monotonic() + 20
    while True:  # W&B's own process writes the end of the file just after finish() returns
        records = parse_log(path.read_bytes())
        if any(r.WhichOneof("record_type") == "exit" for r in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.05)


def parse_log(data: bytes) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    at, whole, records = 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block that no header fits into
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + length > len(data):  # still being written
            break
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def test_offline_log_has_the_same_names_and_no_secret(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "care_grpo_tiny", 3)
    warnings: list[str] = []
    trackers = make_trackers(run, CONFIG, warn=warnings.append)
    for step in (1, 2):
        trackers.log(step, {"rollout/reward": 0.25 * step, "calibration/facts_ece": 0.03})
    trackers.close()
    assert warnings == []
    (log,) = run.wandb.glob("offline-run-*/run-*.wandb")
    records = read_log(log)

    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows.append({k: json.loads(v) for k, v in items.items() if not k.startswith("_")})
    assert rows == read_metrics(run.metrics)

    (started,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert started.run_group == "care_grpo_tiny"
    assert started.display_name == run.name
    assert {item.key for item in started.config.update} - {"_wandb"} == {"recipe", "kind", "seed", "task"}

    stepped = [r.metric for r in records if r.WhichOneof("record_type") == "metric"]
    assert any(metric.glob_name == "*" and metric.step_metric == "step" for metric in stepped)

    everything = b"".join(path.read_bytes() for path in run.wandb.rglob("*") if path.is_file())
    for secret in (b"sk-abcdef", b"hunter2", b"inner-host"):
        assert secret not in everything
    uploaded = log.read_bytes() + b"".join(p.read_bytes() for p in log.parent.glob("files/*") if p.is_file())
    assert os.uname().nodename.encode() not in uploaded


def test_unreachable_server_stalls_nothing_and_leaves_an_offline_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    warnings: list[str] = []
    begin = time.monotonic()
    tracker = WandbTracker(
        mode="online",
        project="p",
        directory=tmp_path,
        name="r-1",
        config=CONFIG,
        warn=warnings.append,
        patience=1.5,
    )
    tracker.log(1, {"rollout/reward": 0.5})
    assert time.monotonic() - begin < 1.0
    while tracker.mode == "online" and time.monotonic() - begin < 30:
        time.sleep(0.05)
    tracker.close()
    assert len(warnings) == 1 and "logging offline" in warnings[0]
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    kinds = [record.WhichOneof("record_type") for record in read_log(log)]
    assert kinds.count("history") == 1


def test_closing_waits_no_longer_than_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that hangs in init: the run's end is not held up, and says where the rest lies."""
    stuck = types.SimpleNamespace(Settings=lambda **_: None, init=lambda **_: time.sleep(3))
    monkeypatch.setitem(sys.modules, "wandb", stuck)
    warnings: list[str] = []
    tracker = WandbTracker(
        mode="online",
        project="p",
        directory=tmp_path,
        name="r",
        config={},
        warn=warnings.append,
        patience=0.3,
    )
    begin = time.monotonic()
    tracker.close("failed")
    assert time.monotonic() - begin < 1.5
    assert len(warnings) == 1 and "wandb sync" in warnings[0]


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


def test_off_starts_no_wandb(tmp_path: Path) -> None:
    trackers = make_trackers(RunDirectory(tmp_path), {"tracking": {"wandb": "off"}})
    assert [type(tracker).__name__ for tracker in trackers.trackers] == ["JsonlTracker"]
    trackers.close()
    with pytest.raises(ValueError, match="use off, offline or online"):
        make_trackers(RunDirectory(tmp_path), {"tracking": {"wandb": "maybe"}})
