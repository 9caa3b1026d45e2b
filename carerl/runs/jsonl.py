"""Writes and reads metrics.jsonl: one JSON object a line, ``{"step": 12, "rollout/reward": 0.5, …}``."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from carerl.runs.files import replacing
from carerl.types import RunError


class JsonlTracker:
    """Appends rows, one flushed line each, so that what was logged survives a crash of the process.

    A number that is not finite is written as ``null``, as JSON has no NaN and other programs read the file. It is
    counted in :attr:`non_finite`, by metric.

    ``resume_step`` is the step of the checkpoint that a run is resumed from. Rows beyond it, and a last
    line cut off by a crash, are dropped before anything is appended. So a resumed run's file equals that of a run
    that was never stopped. Without ``resume_step``, a file that already has content is refused.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        self.path = Path(path)
        self.non_finite: dict[str, int] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_symlink():  # rows would be added to what it leads to
            raise RunError(
                f"{self.path} is a link, in a place for a file of the run's own: remove it, or copy the file"
            )
        if resume_step is not None:
            truncate_after(self.path, resume_step)
        elif self.path.exists() and self.path.stat().st_size:
            raise FileExistsError(f"{self.path} already holds metrics; pass resume_step to resume it")
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        row: dict[str, float | None] = {"step": int(step)}
        for name, value in metrics.items():
            number = float(value)
            if math.isfinite(number):
                row[name] = number
            else:
                row[name] = None
                self.non_finite[name] = self.non_finite.get(name, 0) + 1
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{self.path}: the metrics of step {step} could not be written ({error.strerror}). Make room, and "
                "go on from the last checkpoint: what was trained since is lost"
            ) from error

    def close(self, status: str = "completed") -> None:
        if not self._file.closed:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            finally:
                with contextlib.suppress(OSError):  # of a full disk: told already
                    self._file.close()


def truncate_after(path: Path, step: int) -> int:
    """Keeps the rows up to and including ``step``, byte for byte. Returns how many lines were dropped."""
    if not path.exists():
        return 0
    kept: list[bytes] = []
    lines = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        row = _parse(line)
        if row is not None and row["step"] <= step and line.endswith(b"\n"):
            kept.append(line)
    if len(kept) == len(lines):
        return 0
    with replacing(path) as file:
        file.writelines(kept)
    return len(lines) - len(kept)


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """Returns the rows in file order. ``null`` entries are left out, and so is a line that is not a row."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    rows = (_parse(line) for line in lines)
    return [{name: value for name, value in row.items() if value is not None} for row in rows if row is not None]


def series(rows: list[dict[str, float]], name: str) -> tuple[list[int], list[float]]:
    """Returns steps and values of one metric, in file order."""
    found = [(int(row["step"]), row[name]) for row in rows if name in row]
    return [step for step, _ in found], [value for _, value in found]


def _parse(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
