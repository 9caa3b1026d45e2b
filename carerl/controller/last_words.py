"""What is said of a run that was ended without a chance to say anything itself: by SIGKILL, by the kernel for want of
memory, or by Ray, which ends a driver from C++ once its raylet or its head is gone.

A process of a few megabytes, of Python's own library alone, waits at the end of a pipe. A run that ends in any other
way tells it so. Where the pipe just closes, it says what happened, what is saved and how to go on.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType

ENDED = b"ended"
WHAT = (
    "the run was ended without a word: its process was killed (SIGKILL; `dmesg` tells of the kernel's, for want of "
    "memory), or Ray has ended it because its raylet or its head had died (see raylet.out and gcs_server.out in Ray's "
    "logs, /tmp/ray/session_latest/logs)"
)


class LastWords:
    """As a context manager, for the length of a run; what is saved is said where it has checkpoints."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LastWords:
        with contextlib.suppress(OSError):  # a run is not kept from starting by what only tells of its end
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C and the terminal's end are the run's to answer
                env={},
            )
        return self

    def of(self, run_directory: Path, go_on: str, saves: bool = True) -> None:
        """From now on it is this run that is told of. ``go_on``: the command that goes on with it; ``saves``: from its
        newest checkpoint, so that there must be one."""
        told = {"run": str(run_directory), "go on": go_on, "saves": saves}
        self._write(json.dumps(told).encode() + b"\n")

    def ended(self) -> None:
        """The run has said itself how it ended. What becomes of its process after that is not told."""
        self._write(ENDED + b"\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended()
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process.wait(5.0)

    def _write(self, line: bytes) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.write(line)
                self._process.stdin.flush()


def listen(lines: list[bytes]) -> str:
    """What is to be said once the pipe has closed, after these lines; '' of a run that said it itself."""
    if lines and lines[-1].strip() == ENDED:
        return ""
    if not lines:
        return f"{WHAT}\n  nothing was started yet"
    told = json.loads(lines[-1])
    # by their directories: the run may have been ended before it could point to the newest
    steps = [int(path.name[5:]) for path in Path(told["run"]).glob("checkpoints/step_*") if path.name[5:].isdigit()]
    if told["saves"] and not steps:
        return f"{WHAT}\n  nothing was saved yet, so start it again"
    saved = f"saved is step {max(steps)}; " if told["saves"] else ""
    return f"{WHAT}\n  {saved}go on with: {told['go on']}"


def main() -> None:
    text = listen(sys.stdin.buffer.readlines())
    if not text:
        return
    with contextlib.suppress(OSError):
        print(f"\n{text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
