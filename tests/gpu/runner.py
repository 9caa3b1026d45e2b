"""Runs sections one after another, each in a process of its own with a deadline. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.gpu.report import Row, append, read, whole_lines

LEAST_SECONDS = 25  # a section with less time left is not begun: torch and a model take as long to load
TAIL = 2500  # characters that are shown of what a failed section has printed


@dataclass(frozen=True)
class Section:
    """A line of the table of sections."""

    place: str
    """``module:function``. The function takes a :class:`~tests.gpu.report.Report`."""

    seconds: float
    """The deadline."""

    vllm: bool = False
    """Whether it needs vLLM."""

    toy: bool = False
    """Whether it has a toy run on the CPU."""


def run(sections: Mapping[str, Section], total_seconds: float, out: Path | None) -> list[Row]:
    """Runs sections in their order until ``total_seconds`` are over. Prints the rows of each when it ends, and returns
    all. They are appended to ``out/gpu_check.jsonl`` as they are found, so that whoever is stopped keeps them."""
    rows: list[Row] = []
    end = time.monotonic() + total_seconds
    with tempfile.TemporaryDirectory() as folder:
        file = (out or Path(folder)) / "gpu_check.jsonl"
        for name, section in sections.items():
            begun = time.monotonic()
            left = min(section.seconds, end - begun)
            if left < min(section.seconds, LEAST_SECONDS):
                found = append(file, Row(name, "not run", "no time left"))
            else:
                found = in_own_process(name, section.place, left, file)
            print(f"-- {name}: {time.monotonic() - begun:.0f} s", *found, sep="\n", flush=True)
            rows += found
    return rows


def in_own_process(name: str, place: str, seconds: float, file: Path) -> list[Row]:
    """Returns a section's rows, which are appended to ``file``, and one more if it fails or is not done in time. Leaves
    no process of it, and no temporary file."""
    before = len(read(file))
    # what a killed process group still writes there is no reason to stop
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:  # no pipe: a grandchild that lives on would keep it open
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.gpu.section", name, place, str(file.absolute())],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": folder},
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        whole_lines(file)
        if code != 0:
            print(log.read_text(encoding="utf-8", errors="replace")[-TAIL:], flush=True)
            late = Row(name, "deadline", f"killed after {seconds:.0f} s", "ends in time", False)
            append(file, late if code is None else Row(name, "exit code", code, "= 0", False))
        return read(file)[before:]
