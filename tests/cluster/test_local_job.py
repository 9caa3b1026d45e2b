"""The token of a head that `make job` starts: Ray itself starts one that anybody can use where there is none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from carerl.actors.cluster import access

ROOT = Path(__file__).resolve().parents[2]


def make(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", "from carerl.actors.cluster.access import main; raise SystemExit(main())"],
        cwd=ROOT, env={**kept, "HOME": str(home), **variables}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_token_is_made_where_there_is_none_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = make(tmp_path)
    token = tmp_path / ".ray" / "auth_token"
    assert first.returncode == 0 and str(token) in first.stderr
    assert len(token.read_text()) == 64 and int(token.read_text(), 16)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    made = token.read_text()
    assert make(tmp_path).returncode == 0 and token.read_text() == made, "one that is there is kept"
    other = tmp_path / "other"
    other.mkdir()
    make(other)
    assert (other / ".ray" / "auth_token").read_text() != made


def test_a_token_that_is_given_is_used(tmp_path: Path) -> None:
    assert make(tmp_path, RAY_AUTH_TOKEN="x").returncode == 0 and not (tmp_path / ".ray").exists()
    named = tmp_path / "here" / "token"
    make(tmp_path, RAY_AUTH_TOKEN_PATH=str(named))
    assert len(named.read_text()) == 64


def test_of_two_that_make_one_at_a_time_the_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setattr(Path, "is_file", lambda self: False)  # it was not there a moment ago
    assert access.make_token() is None
    assert token.read_text() == "first" and [path.name for path in tmp_path.iterdir()] == ["token"]


def test_without_a_token_no_head_is_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = make(tmp_path, RAY_AUTH_TOKEN_PATH=str(tmp_path / "file" / "token"))
    assert done.returncode == 2 and "RAY_AUTH_TOKEN_PATH" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["export RAY_AUTH_MODE=token", "from carerl.actors.cluster.access import main"])
def test_the_head_is_started_after_it(line: str) -> None:
    script = (ROOT / "cluster" / "local_job.sh").read_text()
    assert script.index(line) < script.index('"$bin/ray" start --head')
    assert "WARNING" in script, "what Ray warns of is shown"
