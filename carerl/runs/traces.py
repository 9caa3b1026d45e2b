"""Keeps plain traces of validation questions on disk, while thresholds are being learned from them.

A trace reaches the disk as it ends (``step_000000.traces.parts/``), so that what was drawn is never drawn twice. Once
the thresholds are known (:mod:`.thresholds`) the traces are of no more use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from carerl.inference.base import Trace
from carerl.records.spread import TokenSpread
from carerl.runs.parts import Parts
from carerl.runs.tables import evaluation_stem
from carerl.types import Example

SPREAD = tuple(field.name for field in fields(TokenSpread))
COLUMNS: dict[str, str] = {
    "example_id": "string",
    "prompt_ids": "list<int32>",
    "token_ids": "list<int32>",
    "logprobs": "list<double>",
    "truncated": "bool",
    **dict.fromkeys(SPREAD, "list<double>"),  # one a token
}


class TraceStore:
    """Stores the traces of one evaluation. ``warn`` is called with parts that cannot be read; their questions are asked
    again."""

    def __init__(self, directory: str | Path, step: int, warn: Callable[[str], None] = lambda text: None) -> None:
        stem = evaluation_stem(directory, step)
        parts, table = stem.with_suffix(".traces.parts"), stem.with_suffix(".traces.parquet")
        self._parts = Parts(parts, table, COLUMNS, ("example_id",), warn=warn)

    def add(self, traces: Sequence[tuple[Example, Trace]]) -> None:
        """Writes traces that have ended to disk."""
        self._parts.add(_row(example, trace) for example, trace in traces)
        self._parts.write_part()

    def finished(self, examples: Sequence[Example]) -> dict[int, Trace]:
        """Returns the traces on disk of these questions, by number. A trace of another prompt is none of them."""
        rows = {row["example_id"]: row for row in self._parts.read()}
        return {
            number: _trace(row)
            for number, example in enumerate(examples)
            if (row := rows.get(example.id)) is not None and tuple(row["prompt_ids"]) == tuple(example.prompt_ids)
        }

    def remove(self) -> None:
        """Removes the traces from the disk."""
        self._parts.remove()


def _row(example: Example, trace: Trace) -> dict[str, Any]:
    return {
        "example_id": example.id,
        "prompt_ids": list(example.prompt_ids),
        "token_ids": list(trace.token_ids),
        "logprobs": list(trace.logprobs),
        "truncated": trace.truncated,
        **{name: [getattr(spread, name) for spread in trace.spreads] for name in SPREAD},
    }


def _trace(row: Mapping[str, Any]) -> Trace:
    spreads = tuple(TokenSpread(*values) for values in zip(*(row[name] for name in SPREAD), strict=True))
    return Trace(tuple(row["token_ids"]), tuple(row["logprobs"]), spreads, row["truncated"])
