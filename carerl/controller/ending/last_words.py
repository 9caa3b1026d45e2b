"""Speaks for a run that was killed before it could say anything: by SIGKILL, by the kernel because memory ran out, or
by Ray, which ends a driver from C++ once its raylet or its head is gone.

A process of a few megabytes, which imports Python's own library alone, waits at the end of a pipe. A run that ends in
any other way says so through the pipe. If the pipe just closes, the process says what happened, what is saved and how
to resume.
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
    "the run was killed: by SIGKILL (`dmesg` shows whether the kernel did it because memory ran out), or by Ray, "
    "because its raylet or its head had died (see raylet.out and gcs_server.out in Ray's logs, "
    "/tmp/ray/session_latest/logs)"
)


class LastWords:
    """Starts the process that speaks, for the length of a run. A context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LastWords:
        with contextlib.suppress(OSError):  # a run starts even if nobody can report its end
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                start_new_session=True,  # only the run answers Ctrl-C and the terminal's end
                env={},
            )
        return self

    def of(self, run_directory: Path, go_on: str, saves: bool = True) -> None:
        """Says which run it is. ``go_on``: the command that resumes it. ``saves``: True if it is resumed from its
        newest checkpoint, so that there must be one."""
        told = {"run": str(run_directory), "go on": go_on, "saves": saves}
        self._write(json.dumps(told).encode() + b"\n")

    def ended(self) -> None:
        """Says that the run has reported its end itself. Nothing is said of its process after that."""
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
    """Returns what to say once the pipe has closed after these lines; '' for a run that reported its end itself."""
    if lines and lines[-1].strip() == ENDED:
        return ""
    if not lines:
        return f"{WHAT}\n  nothing was started yet"
    told = json.loads(lines[-1])
    # Looks at directories: the run may have been killed before it could point to the newest one.
    steps = [int(path.name[5:]) for path in Path(told["run"]).glob("checkpoints/step_*") if path.name[5:].isdigit()]
    if told["saves"] and not steps:
        return f"{WHAT}\n  nothing was saved yet, so start it again"
    saved = f"saved is step {max(steps)}; " if told["saves"] else ""
    return f"{WHAT}\n  {saved}resume it with: {told['go on']}"


def main() -> None:
    """Waits for the pipe to close, in the process that speaks."""
    text = listen(sys.stdin.buffer.readlines())
    if not text:
        return
    with contextlib.suppress(OSError):
        print(f"\n{text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
