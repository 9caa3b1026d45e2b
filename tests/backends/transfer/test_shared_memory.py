"""Stretches of shared memory: what is left behind, who may open them, and what is said when there is no room."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from carerl.backends.transfer.shared_memory import DIRECTORY, NoSharedMemory, Segment

DIES = """
import os, signal
from carerl.backends.transfer.shared_memory import Segment
segment = Segment.make(4096)
segment.forget()
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by(pid: int) -> list[Path]:
    return list(DIRECTORY.glob(f"carerl_{pid}_*"))


def test_both_sides_see_the_same_bytes_also_once_the_name_is_gone() -> None:
    made = Segment.make(4096)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600, "another user must neither read nor change weights"
    opened = Segment.open(str(made.path), 4096)
    made.forget()
    assert left_by(os.getpid()) == []
    made.bytes_N[7] = 42
    assert opened.bytes_N[7] == 42
    opened.bytes_N[8] = 43
    assert made.bytes_N[8] == 43


def test_a_process_that_is_killed_leaves_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", DIES], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert left_by(int(done.stdout)) == []


def test_where_there_is_no_room_the_setting_is_named_and_nothing_is_left() -> None:
    with pytest.raises(NoSharedMemory, match=r"1048576 MiB of shared memory .* Lower sync.bucket_mib"):
        Segment.make(2**40)
    assert left_by(os.getpid()) == []


def test_a_file_that_is_too_small_or_a_link_is_refused(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"0" * 10)
    with pytest.raises(OSError, match="has 10 bytes, not 4096"):
        Segment.open(str(small), 4096)
    (tmp_path / "link").symlink_to(small)
    with pytest.raises(OSError):
        Segment.open(str(tmp_path / "link"), 10)
