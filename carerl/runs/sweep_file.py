"""Writes and reads sweep.json: the cells that a sweep was asked for, so that a missing result shows.

``{"cells": {NAME: {"row": "recipe=…", "settings": {"regularizer.alpha": ".5", "seed": "100"}}, …}, "published": ""}``;
NAME is the cell's run directory beside the file, ``published`` the publication that the sweep is compared with.
Extending a sweep adds its cells to those already there. Nothing removes a cell: delete one that is no longer wanted by
hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carerl.config.sweep import row_words
from carerl.runs.files import read_json, write_text

SWEEP_FILE = "sweep.json"
ERROR_FILE = "error.txt"  # in a cell: a line with what went wrong, then the traceback


@dataclass(frozen=True, slots=True)
class Cell:
    """Describes one run of a sweep. ``row``: the words of its row; ``settings``: the grid's values, as written."""

    directory: Path
    row: str
    settings: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its command line."""
        return (*row_words(self.row), *(f"{key}={value}" for key, value in self.settings.items()))

    @property
    def method(self) -> tuple[str, ...]:
        """What cells share that differ in nothing but the seed."""
        return (str(self.directory.parent), *sorted(word for word in self.words if not word.startswith("seed=")))


def write_cells(directory: Path, cells: Sequence[Cell], published: str = "") -> None:
    """Adds the cells to those that the file of ``directory`` lists, atomically. ``published``: the publication to
    compare them with; '' keeps the one that the file names."""
    asked = {cell.name: cell for cell in [*read_cells(directory), *cells]}
    record = {
        "cells": {name: {"row": c.row, "settings": dict(c.settings)} for name, c in asked.items()},
        "published": published or read_publication(directory),
    }
    write_text(directory / SWEEP_FILE, json.dumps(record, indent=1) + "\n")


def read_cells(directory: Path) -> list[Cell]:
    """Returns the cells asked for, in their order; none where there is no such file. Raises ValueError for a file that
    does not list cells: continuing without them would lose what was asked for."""
    path = directory / SWEEP_FILE
    if not path.exists():
        return []
    record = read_json(path) or {}
    try:
        if any(name == ".." or Path(name).name != name for name in record["cells"]):
            raise KeyError  # a cell lies beside the file, and nowhere else
        return [
            Cell(directory / name, str(cell["row"]), {key: str(value) for key, value in cell["settings"].items()})
            for name, cell in record["cells"].items()
        ]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: does not list a sweep's cells; mend it, or delete it") from None


def read_publication(directory: Path) -> str:
    """Returns the name of the publication that a sweep is compared with; '' if it names none."""
    return str((read_json(directory / SWEEP_FILE) or {}).get("published") or "")


def status(cell: Path) -> str:
    """Returns ``completed``, ``interrupted``, ``failed`` or ``absent``, from what lies in a cell's directory."""
    ended = (read_json(cell / "summary.json") or {}).get("status")
    if ended == "completed":
        return "completed"
    if (cell / ERROR_FILE).exists():
        return "failed"
    return str(ended or ("interrupted" if (cell / "config.yaml").exists() else "absent"))


def why_absent(cell: Path) -> str:
    """Returns why a cell has no result, in words; empty for one that is complete."""
    state = status(cell)
    if state == "failed":
        return f"failed: {_error_line(cell / ERROR_FILE)}"
    if state == "interrupted" and not (cell / "summary.json").exists():
        return "no summary.json: it is still running, or was killed"
    return {"completed": "", "absent": "not run"}.get(state, state)


def _error_line(path: Path) -> str:
    """Returns the first line, or the last of a file that starts with the traceback."""
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    if not lines:
        return "without a message"
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
