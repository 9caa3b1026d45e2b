"""How every command ends: a reader that has gone, a traceback without secrets, help that is never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from carerl.cli import COMMANDS
from carerl.text.terminal import GONE, command


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "run" else []) for name in COMMANDS]
)
def test_a_reader_that_has_gone_is_no_error(name: str) -> None:
    """``python -m carerl.run --help | head``."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", f"carerl.{name}", "--help"], stdout=gone, stderr=subprocess.PIPE, text=True,
            timeout=120, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (GONE, "")


def end(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from carerl.text.terminal import command\n{program}"],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_another_pipe_that_breaks_is_an_error() -> None:
    done = end(
        "import os\ndef main():\n  r, w = os.pipe(); os.close(r); os.write(w, b'x')\nraise SystemExit(command(main))"
    )
    assert done.returncode == 1 and "BrokenPipeError" in done.stderr


def test_hole_a_traceback_holds_no_secret() -> None:
    raises = "raise RuntimeError('key correct-horse-battery, s3://me:hunter2@b')"
    program = f"def main():\n  {raises}\nraise SystemExit(command(main))"
    done = end(program, SOME_API_KEY="correct-horse-battery")
    assert done.returncode == 1 and "RuntimeError: key [redacted]" in done.stderr
    assert "correct-horse" not in done.stderr and "hunter2" not in done.stderr


@pytest.mark.parametrize("code", [0, 2, 143])
def test_an_exit_code_is_passed_on(code: int) -> None:
    main: Callable[[], int] = lambda: code  # noqa: E731
    assert command(main) == code
