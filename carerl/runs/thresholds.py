"""Keeps the thresholds that methods of inference learned on validation questions, beside the evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from carerl.runs.files import write_text
from carerl.runs.tables import evaluation_stem


def write_thresholds(directory: str | Path, step: int, thresholds: Mapping[str, float]) -> None:
    """Writes ``step_000000.thresholds.json``: method -> threshold. Every digit is kept: a resumed evaluation uses
    them."""
    write_text(_place(directory, step), json.dumps(dict(thresholds), indent=2) + "\n")


def read_thresholds(directory: str | Path, step: int) -> dict[str, float]:
    """Returns the thresholds by method; empty where none were learned, or the file cannot be read."""
    try:
        found = json.loads(_place(directory, step).read_text())
        return {str(method): float(value) for method, value in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _place(directory: str | Path, step: int) -> Path:
    return evaluation_stem(directory, step).with_suffix(".thresholds.json")
