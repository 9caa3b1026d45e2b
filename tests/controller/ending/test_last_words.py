"""What is said of a run whose process ends without a word: the one that says it is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from carerl.controller.ending.last_words import LastWords, listen

ENDS = {"killed": "os.kill(os.getpid(), 9)", "by Ray, from C++": "os._exit(1)", "by itself": "sys.exit(1)"}


@pytest.mark.parametrize("how", ENDS)
def test_a_run_that_is_ended_without_a_word_is_told_of(how: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step_000040").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_000020").mkdir()
    (tmp_path / "checkpoints" / "latest").symlink_to("step_000020")  # it was ended between the save and the pointer
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom carerl.controller.ending.last_words import LastWords\n"
        f"with LastWords() as last:\n    last.of(Path({str(tmp_path)!r}), 'go on so')\n    {ENDS[how]}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    if how == "by itself":
        assert done.stderr == "", "it says so itself"
    else:
        assert "the run was killed" in done.stderr and "saved is step 40" in done.stderr
        assert "resume it with: go on so" in done.stderr


def test_what_is_said_depends_on_what_there_is(tmp_path: Path) -> None:
    def told(saves: bool) -> bytes:
        return json.dumps({"run": str(tmp_path), "go on": "the same command", "saves": saves}).encode() + b"\n"

    assert "nothing was started yet" in listen([])
    assert "start it again" in listen([told(saves=True)])
    assert "resume it with: the same command" in listen([told(saves=False)])
    assert listen([told(saves=True), b"ended\n"]) == "" and listen([b"ended\n"]) == ""


def test_a_run_whose_watcher_cannot_be_started_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with LastWords() as last:
        last.of(tmp_path, "")
