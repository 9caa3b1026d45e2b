"""metrics.jsonl: what is written, and that a resumed file is that of a run never stopped."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from carerl.runs.jsonl import JsonlTracker, read_metrics, series, truncate_after


def log_steps(tracker: JsonlTracker, steps: range) -> None:
    """Two rows at every tenth step, as a run has: the step's, then the evaluation's."""
    for step in steps:
        number = random.Random(step).random()
        tracker.log(step, {"rollout/reward": number, "train/loss": -number / 3})
        if step % 10 == 0:
            tracker.log(step, {"eval/accuracy": number})


@pytest.mark.parametrize("stopped_at", [10, 11, 14, 20])
@pytest.mark.parametrize("rest", [b"", b'{"step": 15, "rollout/rew', b'{"step": 10, "rollout/reward": 0.5}'])
def test_resumed_file_equals_uninterrupted_file(tmp_path: Path, stopped_at: int, rest: bytes) -> None:
    """Stopped at any step after the checkpoint of step 10, with or without a line cut off by the crash
    (the last case is a whole object whose newline is missing)."""
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    tracker = JsonlTracker(whole)
    log_steps(tracker, range(1, 31))
    tracker.close()
    tracker = JsonlTracker(resumed)
    log_steps(tracker, range(1, stopped_at + 1))
    tracker.close("failed")
    with open(resumed, "ab") as file:
        file.write(rest)
    tracker = JsonlTracker(resumed, resume_step=10)
    log_steps(tracker, range(11, 31))
    tracker.close()
    assert resumed.read_bytes() == whole.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_truncation_counts_and_keeps_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1,   "a": 1e-3}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n')
    assert truncate_after(path, 1) == 2
    assert path.read_text() == '{"step": 1,   "a": 1e-3}\n'  # not re-encoded
    assert truncate_after(path, 1) == 0


def test_a_line_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "m.jsonl")
    tracker.log(1, {"a": 0.1})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 1, "a": 0.1}\n'


def test_numbers_that_are_not_finite_become_null_and_are_counted(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "m.jsonl")
    tracker.log(1, {"a": float("nan"), "b": 1.0})
    tracker.log(2, {"a": float("-inf"), "b": 2.0})
    tracker.close()
    assert tracker.non_finite == {"a": 2}
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    # strict JSON: a parser that knows no NaN reads it
    assert json.loads(lines[0], parse_constant=lambda name: pytest.fail(name)) == {
        "step": 1,
        "a": None,
        "b": 1.0,
    }
    rows = read_metrics(tmp_path / "m.jsonl")
    assert series(rows, "a") == ([], [])
    assert series(rows, "b") == ([1, 2], [1.0, 2.0])


def test_a_fresh_run_does_not_append_to_an_old_one(tmp_path: Path) -> None:
    JsonlTracker(tmp_path / "m.jsonl").log(1, {"a": 1.0})
    with pytest.raises(FileExistsError, match="resume_step"):
        JsonlTracker(tmp_path / "m.jsonl")
