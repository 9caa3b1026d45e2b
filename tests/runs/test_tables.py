"""Rollout tables and evaluations, written and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from carerl.runs.tables import (
    ROLLOUT_COLUMNS,
    read_evaluations,
    read_question_counts,
    read_rollouts,
    write_evaluation,
    write_rollouts,
)
from carerl.types import Outcome, Sampling
from tests.runs.synthetic_runs import FakeEvaluation


def test_rollouts_read_back_as_written(tmp_path: Path) -> None:
    rows = [
        {
            "step": 10,
            "example_id": "q/1",
            "sample": i,
            "prompt": "Q 3 +4 =",
            "response": "C 3 7 A 7",
            "gold": "7",
            "answer": None if i else "7",
            "outcome": Outcome.TRUNCATED if i else Outcome.CORRECT,
            "correct": np.bool_(not i),
            "reward": np.float32(1 - i),
            "advantage": -0.5,
            "confidence": None,
            "tokens": np.int64(5),
            "mean_logprob": -0.1,
            "weight_version": 9,
            "note": "extra",
        }
        for i in range(2)
    ]
    write_rollouts(tmp_path / "rollouts" / "step_000010.parquet", rows)
    back = read_rollouts(tmp_path / "rollouts" / "step_000010.parquet")
    assert [row["outcome"] for row in back] == ["correct", "truncated"]
    assert [row["answer"] for row in back] == ["7", None]
    assert [row["reward"] for row in back] == [1.0, 0.0]
    assert back[0]["note"] == "extra"
    assert [p.name for p in (tmp_path / "rollouts").iterdir()] == ["step_000010.parquet"]


def test_columns_keep_their_types_when_all_values_are_missing(tmp_path: Path) -> None:
    """Tables of many steps are read together; a step in which nothing was parsed must not differ in type."""
    write_rollouts(tmp_path / "a.parquet", [{"step": 1}])
    write_rollouts(tmp_path / "b.parquet", [{"step": 2, "answer": "7", "confidence": 0.5}])
    write_rollouts(tmp_path / "c.parquet", [])
    schemas = [pq.read_schema(tmp_path / f"{name}.parquet") for name in "abc"]
    assert schemas[0].equals(schemas[1]) and schemas[0].equals(schemas[2])
    assert schemas[0].names == list(ROLLOUT_COLUMNS)


@dataclass(frozen=True)
class Bin:
    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def test_evaluation_reads_back(tmp_path: Path) -> None:
    evaluation = FakeEvaluation(
        {"eval/accuracy": np.float64(0.5), "eval/maj": float("nan")},
        {"facts": [Bin(0.0, 0.1, 0.05, 0.0, 3)]},  # type: ignore[list-item]
        [{"id": "q1", "share": 0.5}, {"id": "q2", "answer": "7"}],
    )
    sampling = Sampling(n=16, temperature=1.0, max_new_tokens=8, seed=1)
    json_path, parquet_path = write_evaluation(tmp_path, 200, evaluation, sampling)
    assert (json_path.name, parquet_path and parquet_path.name) == ("step_000200.json", "step_000200.parquet")
    record = json.loads(json_path.read_text())
    assert record["metrics"] == {"eval/accuracy": 0.5, "eval/maj": None}
    assert record["reliability"]["facts"] == [
        {"low": 0.0, "high": 0.1, "confidence": 0.05, "accuracy": 0.0, "count": 3}
    ]
    assert record["sampling"]["n"] == 16
    assert pq.read_table(parquet_path).to_pylist() == [
        {"id": "q1", "share": 0.5, "answer": None},
        {"id": "q2", "share": None, "answer": "7"},
    ]


def test_questions_are_counted_from_the_tables(tmp_path: Path) -> None:
    for step, asked in ((0, 5), (50, 2), (100, 5), (150, 0)):  # no table without rows
        write_evaluation(tmp_path, step, FakeEvaluation({}, rows=[{"id": i} for i in range(asked)]))
    (tmp_path / "step_000100.parquet").write_bytes(b"PAR1")
    assert read_question_counts(tmp_path) == {0: 5, 50: 2}


def test_evaluations_come_in_order_of_steps_without_broken_ones(tmp_path: Path) -> None:
    for step in (1_000_000, 50, 0):  # the first has a digit more than names are padded to
        write_evaluation(tmp_path, step, FakeEvaluation({"eval/accuracy": 0.1}))
    (tmp_path / "step_000100.json").write_text('{"step": 100, "metr')
    assert [record["step"] for record in read_evaluations(tmp_path)] == [0, 50, 1_000_000]
