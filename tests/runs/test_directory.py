"""Run directories: names, exclusivity, locks, and what is written in them."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from carerl.runs.directory import RunDirectory, RunDirectoryError, git_commit
from carerl.runs.files import finite, write_text


def test_name_says_recipe_seed_and_time(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", "care_grpo_tiny", 7)
    assert re.fullmatch(r"care_grpo_tiny-s7-\d{8}-\d{6}-[0-9a-f]{4}", run.name)
    assert run.path.parent == tmp_path / "runs"


def test_a_recipe_with_slashes_makes_one_directory(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "../mine/care", 7)
    assert run.path.resolve().parent == tmp_path.resolve()


def test_runs_started_together_get_directories_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: RunDirectory.create(tmp_path, "care", 1), range(40)))
    assert len({run.path for run in runs}) == 40


def test_a_taken_name_is_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(suffixes))
    monkeypatch.setattr("time.strftime", lambda _: "20261121-100000")
    first = RunDirectory.create(tmp_path, "care", 1)
    second = RunDirectory.create(tmp_path, "care", 1)
    assert (first.name[-4:], second.name[-4:]) == ("aaaa", "bbbb")


def test_a_given_directory_must_be_empty(tmp_path: Path) -> None:
    run = RunDirectory.create("unused", "care", 1, path=tmp_path / "mine")
    run.write_config("seed: 1\n")
    run.release()
    with pytest.raises(RunDirectoryError, match=r"not empty.*resume="):
        RunDirectory.create("unused", "care", 1, path=tmp_path / "mine")
    assert not Path("unused").exists()


def test_a_run_in_use_cannot_be_resumed_twice(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "care", 1)
    run.write_config("seed: 1\n")
    with pytest.raises(RunDirectoryError, match="another process"):
        RunDirectory.open(run.path)
    run.release()
    resumed = RunDirectory.open(run.path)
    with pytest.raises(RunDirectoryError, match="another process"):
        RunDirectory.open(run.path)
    resumed.release()


def test_open_says_why_it_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no such directory"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match=r"no config\.yaml"):
        RunDirectory.open(tmp_path)


def test_versions_are_those_installed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_versions()
    found = json.loads(run.versions.read_text())
    assert found["numpy"] == np.__version__
    assert set(found) >= {"python", "platform", "torch", "vllm", "ray", "transformers", "carerl"}


def test_the_commit_of_a_foreign_repository_is_not_ours(tmp_path: Path) -> None:
    """An environment inside somebody's checkout: its commit says nothing of the installed package."""
    package = tmp_path / "env" / "carerl"
    package.mkdir(parents=True)

    def git(where: Path, *arguments: str) -> None:
        identity = ("-c", "user.email=a@b", "-c", "user.name=a")
        subprocess.run(["git", "-C", str(where), *identity, *arguments], check=True, capture_output=True)

    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    assert git_commit(package) == {}
    git(tmp_path / "env", "init", "-q")
    git(tmp_path / "env", "commit", "-q", "--allow-empty", "-m", "x")
    (package / "new.py").write_text("")
    ours = git_commit(package)
    assert re.fullmatch(r"[0-9a-f]{40}", ours["commit"]) and ours["dirty"] is True


def test_summary_needs_a_known_status_and_holds_plain_json(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(ValueError, match="'done' is not one of completed, interrupted, failed"):
        run.write_summary({"status": "done"})
    run.write_summary({"status": "failed", "final": {"a": float("nan"), "b": np.float32(0.5)}})
    assert json.loads(run.summary.read_text()) == {"status": "failed", "final": {"a": None, "b": 0.5}}


def test_finite_keeps_numbers_and_blanks_the_rest() -> None:
    assert finite({"a": [1, 2.5, float("inf")], "b": (True, None, "x"), "c": np.arange(2)}) == {
        "a": [1, 2.5, None],
        "b": [True, None, "x"],
        "c": [0, 1],
    }


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "summary.json"
    write_text(target, "old")
    with pytest.raises(AttributeError):
        write_text(target, 3)  # type: ignore[arg-type]
    assert target.read_text() == "old"


def test_what_came_to_no_checkpoint_is_set_aside_and_kept(tmp_path: Path) -> None:
    for expected in ("here.unsaved", "here.unsaved2"):
        run = RunDirectory.create(tmp_path, "r", 1, path=tmp_path / "here")
        run.write_config("seed: 1\n")
        with pytest.raises(RunDirectoryError, match="another process is writing"):
            RunDirectory.set_aside(run.path)
        run.release()
        aside = RunDirectory.set_aside(run.path)
        assert aside == tmp_path / expected and (aside / "config.yaml").read_text() == "seed: 1\n"
        assert not run.path.exists()
    assert RunDirectory.set_aside(tmp_path / "here") is None
