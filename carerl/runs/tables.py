"""Writes and reads rollout tables and evaluations: Parquet for rows, JSON for what a person opens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from carerl.runs.directory import RunDirectory
from carerl.runs.files import finite, read_json, replacing, write_text

# column -> Arrow type, fixed so that a table whose answers are all missing has the same columns and types
ROLLOUT_COLUMNS: dict[str, str] = {
    "step": "int64",
    "example_id": "string",
    "sample": "int64",
    "prompt": "string",
    "response": "string",
    "gold": "string",
    "answer": "string",
    "outcome": "string",
    "correct": "bool",
    "reward": "float64",
    # of the token that names an option, where decisions are looked for: its place among the response's tokens, from 0
    "decision_position": "int64",
    # where the reward is for the likeliest option (decision.reward=argmax): its label, and the outcome with it in the
    # decision's place; without an outcome the reward is for the response as it was sampled
    "likeliest": "string",
    "argmax_outcome": "string",
    "advantage": "float64",
    "confidence": "float64",
    # what the policy says of the response (:mod:`carerl.types`), and what its policy term weighs, as dealt
    "certainty": "float64",
    "entropy": "float64",
    "gain": "float64",
    "weight": "float64",
    "tokens": "int64",
    "mean_logprob": "float64",
    "weight_version": "int64",
    # one entry a response token; null where nobody asked for them
    "response_ids": "list<int64>",
    "token_text": "list<string>",
    "token_logprob": "list<float>",
    "token_entropy": "list<float>",
    "token_rkl": "list<float>",
}


class EvaluationLike(Protocol):
    """Describes what a task's ``score`` returns."""

    @property
    def metrics(self) -> Mapping[str, float]: ...

    @property
    def reliability(self) -> Mapping[str, Sequence[Any]]: ...

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def intervals(self) -> Mapping[str, tuple[float, float]]: ...


def write_rollouts(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes one row per sample. Columns beyond :data:`ROLLOUT_COLUMNS` are kept; a missing one becomes null."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, kind in ROLLOUT_COLUMNS.items():
        columns[name] = pa.array([_plain(row.get(name)) for row in rows], type=arrow_type(kind))
    extra = [name for row in rows for name in row if name not in ROLLOUT_COLUMNS]
    for name in dict.fromkeys(extra):
        columns[name] = pa.array([_plain(row.get(name)) for row in rows])
    write_parquet(Path(path), pa.table(columns))


def arrow_type(kind: str) -> Any:
    """Returns the Arrow type of a name such as ``int64`` or ``list<string>``."""
    import pyarrow as pa

    item = kind.removeprefix("list<").removesuffix(">")
    return pa.type_for_alias(kind) if item == kind else pa.list_(pa.type_for_alias(item))


def read_rollouts(path: str | Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def write_evaluation(
    directory: str | Path, step: int, evaluation: EvaluationLike, sampling: Any = None
) -> tuple[Path, Path | None]:
    """Writes ``step_000200.json`` with metrics, reliability bins and sampling settings, and a Parquet file with one row
    per question. Returns both paths; the second is None when the evaluation has no rows."""
    stem = evaluation_stem(directory, step)
    record = {
        "step": int(step),
        "metrics": dict(evaluation.metrics),
        "reliability": {name: [_as_dict(b) for b in bins] for name, bins in evaluation.reliability.items()},
        "intervals": {name: list(bounds) for name, bounds in evaluation.intervals.items()},
        "sampling": _as_dict(sampling) if sampling is not None else {},
    }
    json_path = stem.with_suffix(".json")
    write_text(json_path, json.dumps(finite(record), indent=2) + "\n")
    if not evaluation.rows:
        return json_path, None
    import pyarrow as pa

    names = dict.fromkeys(name for row in evaluation.rows for name in row)
    table = pa.table({name: pa.array([_plain(row.get(name)) for row in evaluation.rows]) for name in names})
    write_parquet(stem.with_suffix(".parquet"), table)
    return json_path, stem.with_suffix(".parquet")


def copy_evaluation(source: str | Path, target: str | Path, step: int) -> None:
    """Takes over another run's evaluation of a step with all of its files; its record then says from which run it is.
    Large files are links where the file system has them: nothing changes one in its place."""
    stem = evaluation_stem(target, step)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for path in evaluation_stem(source, step).parent.glob(f"{stem.name}.*parquet"):
        copy = stem.with_name(path.name)
        copy.unlink(missing_ok=True)
        try:
            os.link(path, copy)
        except OSError:
            shutil.copyfile(path, copy)
    record = read_json(evaluation_stem(source, step).with_suffix(".json")) or {}
    record["taken_from"] = Path(source).parent.name
    write_text(stem.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


def read_evaluations(directory: str | Path) -> list[dict[str, Any]]:
    """Returns every evaluation of a run in order of steps. A file that cannot be read is left out."""
    found = [read_json(path) for path in sorted(Path(directory).glob("step_*.json"))]
    return sorted(
        (record for record in found if record and isinstance(record.get("step"), int)),
        key=lambda record: record["step"],
    )


def evaluation_metrics(run: RunDirectory, step: int) -> dict[str, float]:
    """Returns the metrics of a run's evaluation at a step; empty if there was none."""
    record = read_json(evaluation_stem(run.evaluations, step).with_suffix(".json")) or {}
    return {name: value for name, value in (record.get("metrics") or {}).items() if value is not None}


def read_questions(directory: str | Path, step: int) -> list[dict[str, Any]]:
    """Returns the rows of an evaluation's table, one a question; none where it is missing or cannot be read."""
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(evaluation_stem(directory, step).with_suffix(".parquet")).to_pylist()
    except (OSError, ValueError):
        return []
    return rows


def read_chosen(directory: str | Path, base: bool) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Returns a run's last evaluation and its questions; with ``base`` those of the model it started from. None where
    there is no such evaluation."""
    records = read_evaluations(directory)
    if not records or (base and records[0]["step"] != 0):
        return None
    record = records[0 if base else -1]
    return record, read_questions(directory, record["step"])


def read_prompts(directory: str | Path, step: int) -> dict[tuple[str, str], tuple[str, str]]:
    """Returns prompt and gold answer of each (suite, question). Empty where the samples were not kept."""
    import pyarrow.parquet as pq

    try:
        columns = ["suite", "example_id", "prompt", "gold", "sample"]
        table = pq.read_table(samples_table(directory, step), columns=columns, filters=[("sample", "=", 0)])
    except (OSError, ValueError):
        return {}
    return {(row["suite"], row["example_id"]): (row["prompt"], row["gold"]) for row in table.to_pylist()}


def read_sample_texts(directory: str | Path, step: int) -> list[dict[str, Any]]:
    """Returns every sample of an evaluation as text, without tokens; none where samples were not kept."""
    import pyarrow.parquet as pq

    columns = ["suite", "example_id", "sample", "prompt", "response", "gold", "outcome", "answer", "tokens"]
    try:
        rows: list[dict[str, Any]] = pq.read_table(samples_table(directory, step), columns=columns).to_pylist()
    except (OSError, ValueError):
        return []
    return rows


def samples_table(directory: str | Path, step: int) -> Path:
    return evaluation_stem(directory, step).with_suffix(".samples.parquet")


def read_question_counts(directory: str | Path) -> dict[int, int]:
    """Returns how many questions each evaluation of a run asked, by step. An evaluation whose table is missing or
    cannot be read is left out."""
    import pyarrow.parquet as pq

    counts = {}
    for record in read_evaluations(directory):
        try:
            table = evaluation_stem(directory, record["step"]).with_suffix(".parquet")
            counts[record["step"]] = pq.read_metadata(table).num_rows
        except (OSError, ValueError):
            continue
    return counts


def evaluation_stem(directory: str | Path, step: int) -> Path:
    return Path(directory) / f"step_{step:06d}"


def _as_dict(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else value


def _plain(value: Any) -> Any:
    """Returns a value that Arrow takes: enumerations as their text, numpy and torch scalars as numbers."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):  # StrEnum
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def write_parquet(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        pq.write_table(table, file)
