"""Checkpoints and what lies beside them in a run directory. Their content is a stand-in; no actor is started.

tests/e2e/test_pipeline.py goes on with real ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from carerl.config.stored import committed
from carerl.controller import checkpoints
from carerl.runs import commit as on_disk
from carerl.runs.directory import RunDirectory


def commit(run: RunDirectory, step: int) -> Path:
    final = run.checkpoint_dir(step)
    partial = final.with_name(f".{final.name}.partial")
    (partial / "learner").mkdir(parents=True)
    (partial / "learner" / "shard").write_text(f"weights of step {step}")
    (partial / "state.json").write_text(json.dumps({"format": on_disk.FORMAT, "step": step}))
    on_disk.commit(partial, final)
    on_disk.point(run.checkpoints / "latest", final)
    return final


def damage(checkpoint: Path) -> None:
    (checkpoint / "learner" / "shard").write_text("other weights")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    for step in (50, 100, 150, 200):
        commit(run, step)
    for step in range(10, 201, 10):
        for path in (
            run.rollout_file(step),
            *(run.evaluations / f"step_{step:06d}.{end}" for end in ("json", "parquet")),
        ):
            path.parent.mkdir(exist_ok=True)
            path.write_text(str(step))
    run.write_summary({"status": "completed", "steps": 200})
    return run


def go_back(run: RunDirectory) -> tuple[int, list[str]]:
    said: list[str] = []
    newest, state = on_disk.latest(run.checkpoints, said.append)
    checkpoints.go_back(run, newest, state["step"], said.append)
    return state["step"], said


def steps(folder: Path) -> set[int]:
    return {int(path.stem.removeprefix("step_")) for path in folder.iterdir()}


def test_nothing_of_what_came_after_stays(run: RunDirectory) -> None:
    for step in (150, 200):
        damage(run.checkpoint_dir(step))
    assert go_back(run)[0] == 100
    assert steps(run.evaluations) == steps(run.rollouts) == set(range(10, 101, 10))
    assert len(list(run.evaluations.iterdir())) == 2 * 10
    assert not run.summary.exists()  # it said completed


def test_damaged_checkpoints_are_set_aside_and_kept(run: RunDirectory) -> None:
    for step in (150, 200):
        damage(run.checkpoint_dir(step))
    _, said = go_back(run)
    names = {path.name for path in run.checkpoints.iterdir()}
    assert names == {"step_000050", "step_000100", "step_000150.damaged", "step_000200.damaged", "latest"}
    assert (run.checkpoints / "step_000200.damaged" / "learner" / "shard").read_text() == "other weights"
    assert (run.checkpoints / "latest").resolve() == run.checkpoint_dir(100)  # not a pointer to nowhere
    assert sum("checksum" in line for line in said) == sum(".damaged" in line for line in said) == 2
    # they are taken neither for a checkpoint to go on from nor for one to prune
    assert [step for step, _ in committed(run.checkpoints)] == [50, 100]


def test_damaged_twice(run: RunDirectory) -> None:
    for _ in range(3):
        damage(run.checkpoint_dir(200))
        assert go_back(run)[0] == 150
        commit(run, 200)
    aside = {path.name for path in run.checkpoints.glob("*.damaged")}
    assert aside == {"step_000200.damaged", "step_000200.2.damaged", "step_000200.3.damaged"}


def test_a_sound_run_keeps_all_that_it_has(run: RunDirectory) -> None:
    assert go_back(run) == (200, [])
    assert steps(run.evaluations) == steps(run.rollouts) == set(range(10, 201, 10))
    assert [step for step, _ in committed(run.checkpoints)] == [50, 100, 150, 200]


def test_the_newest_is_the_one_of_the_largest_step(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for step in (999_999, 1_000_000):  # in the order of names the first comes last
        commit(run, step)
    assert on_disk.latest(run.checkpoints, print)[1]["step"] == 1_000_000


@pytest.mark.parametrize(("name", "text"), [("manifest.json", "[]"), ("manifest.json", "{"), ("state.json", "[]")])
def test_files_that_are_not_what_they_should_be_are_damage(run: RunDirectory, name: str, text: str) -> None:
    newest = run.checkpoint_dir(200)
    (newest / name).write_text(text)
    if name == "state.json":  # with a manifest that holds
        (newest / "manifest.json").write_text("{}")
    assert on_disk.verify(newest)
    assert go_back(run)[0] == 150


def plant(place: Path, kind: str) -> None:
    """Something that the manifest does not bind."""
    manifest = json.loads((place / "manifest.json").read_text())
    outside = place.parents[2] / "outside"
    outside.write_text("elsewhere")
    digest = hashlib.sha256(b"elsewhere").hexdigest()
    if kind == "unlisted":
        (place / "learner" / ".metadata").write_bytes(b"pickled")
    elif kind == "empty manifest":
        manifest = {}
    elif kind == "missing":
        (place / "learner" / "shard").unlink()
    elif kind == "a link":
        (place / "learner" / "more").symlink_to(outside)
        manifest["learner/more"] = digest
    elif kind == "a linked folder":
        (place / "more").symlink_to(outside.parent)
    elif kind == "a pipe":
        os.mkfifo(place / "learner" / "pipe")
    elif kind == "traversal":
        manifest[os.path.relpath(outside, place)] = digest
    elif kind == "absolute":
        manifest[str(outside)] = digest
    elif kind == "not a digest":
        manifest["learner/shard"] = {"sha256": 1}
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "wrong",
    [{"step": 900}, {"step": "100"}, {"step": True}, {"step": None}, {"format": 99}, {"loop": []},
     {"loop": {"position": "1"}}, {"loop": {"position": 1, "also": 2.0}}],
)  # fmt: skip
def test_a_state_that_is_not_this_checkpoints_is_damage(tmp_path: Path, wrong: dict[str, object]) -> None:
    run = RunDirectory(tmp_path)
    for step in (50, 100):
        commit(run, step)
    place = run.checkpoint_dir(100)
    text = json.dumps({"format": on_disk.FORMAT, "step": 100, **wrong})
    (place / "state.json").write_text(text)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256(text.encode()).hexdigest()
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert "state.json" in (on_disk.verify(place) or "")
    assert on_disk.latest(run.checkpoints, lambda text: None)[1]["step"] == 50


PLANTED = (
    "unlisted", "empty manifest", "missing", "a link", "a linked folder", "a pipe", "traversal", "absolute",
    "not a digest",
)  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_a_manifest_binds_every_file_and_nothing_else(tmp_path: Path, kind: str) -> None:
    run = RunDirectory(tmp_path / "run")
    for step in (50, 100):
        commit(run, step)
    plant(run.checkpoint_dir(100), kind)
    assert on_disk.verify(run.checkpoint_dir(100))
    said: list[str] = []
    assert on_disk.latest(run.checkpoints, said.append)[1]["step"] == 50 and len(said) == 1
    assert on_disk.verify(run.checkpoint_dir(50)) is None


def test_files_are_hashed_at_the_same_time(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reader waits for another one: one reader alone would wait for ever."""
    both, real = threading.Barrier(2, timeout=20), on_disk.sha256
    monkeypatch.setattr(on_disk, "sha256", lambda file: (both.wait(), real(file))[1])
    assert len(json.loads((run.checkpoint_dir(200) / "manifest.json").read_text())) == 2
    assert on_disk.verify(run.checkpoint_dir(200)) is None
    damage(run.checkpoint_dir(200))
    assert "learner/shard does not match" in (on_disk.verify(run.checkpoint_dir(200)) or "")


def test_a_sum_that_is_given_is_taken_and_its_file_must_be_there(tmp_path: Path) -> None:
    partial, final = tmp_path / ".step_000050.partial", tmp_path / "step_000050"
    partial.mkdir()
    for name in ("a", "b"):
        (partial / name).write_text(name)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        on_disk.commit(partial, final, {"a": "sum of a", "elsewhere": "sum"})
    assert not final.exists()
    on_disk.commit(partial, final, {"a": "sum of a"})
    found = json.loads((final / "manifest.json").read_text())
    assert found == {"a": "sum of a", "b": hashlib.sha256(b"b").hexdigest()}


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    damage(commit(run, 50))
    with pytest.raises(on_disk.NoCheckpoint, match="holds no whole checkpoint"):
        on_disk.latest(run.checkpoints, lambda text: None)
    assert run.checkpoint_dir(50).is_dir()  # to look at; nothing is renamed where nothing goes on
