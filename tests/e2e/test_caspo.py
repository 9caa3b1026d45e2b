"""Rounds of preferences with real parts: Ray, vLLM, completions that judge; and a recipe with a second model rehearsed.

Not covered: stops in other phases, what is stored (tests/controller/test_caspo.py), learning (the study of steps).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import TrainingCrew, crew
from carerl.config.load import load
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.launch import run
from carerl.controller.models import base_model
from carerl.controller.session import Result
from carerl.runs.jsonl import read_metrics
from carerl.tracking.display import QuietDisplay
from tests.qwen_vocabulary import qwen_directory_or_skip
from tests.tasks.shared_data import data_dir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WORDS = [
    "recipe=caspo_tiny", "model.base_overrides=[steps=300]", "steps=2", "prompts_per_step=12",
    "preference.label=monte_carlo", "preference.completions=2", "preference.samples=4",
    "preference.pairs_per_update=8", "evaluation.questions=8", "evaluation.samples=2", "tracking.wandb=off",
    "tracking.display=quiet",
]  # fmt: skip


class StopIn(QuietDisplay):
    """Asks for a stop when a stage begins for the ``nth`` time."""

    def __init__(self, stop: StopFlag, stage: str, nth: int) -> None:
        self._stop, self._stage, self._left = stop, stage, nth

    def stage(self, name: str) -> None:
        self._left -= name == self._stage
        if name == self._stage and self._left == 0:
            self._stop.request("the test says so")


def start(actors: tuple[TrainingCrew, str], *words: str, stop_at: int = 0) -> Result:
    with StopFlag() as stop:
        return run(load(list(words)), *actors, StopIn(stop, "judge", stop_at), stop)


def rounds(result: Result) -> dict[str, list[dict[str, Any]]]:
    return {
        str(path.relative_to(result.run_dir)): pq.read_table(path).to_pylist()
        for path in sorted(result.run_dir.glob("rounds/*/*.parquet"))
    }


def measured(result: Result) -> list[Mapping[str, str]]:
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    return [{k: repr(v) for k, v in row.items() if not k.startswith(("time/", "system/"))} for row in rows]


def test_completions_judge_and_a_run_that_was_stopped_while_they_do_goes_on(tmp_path: Path) -> None:
    config = load(WORDS)
    with cluster(), crew(config) as found:
        model = base_model.model_directory(config, found.learner, QuietDisplay(), StopFlag())
        actors = found, model
        whole = start(actors, *WORDS, f"run_dir={tmp_path / 'whole'}")
        stopped = start(actors, *WORDS, f"run_dir={tmp_path / 'stopped'}", stop_at=3)
        assert (whole.status, stopped.status, stopped.step) == ("completed", "interrupted", 1)
        assert (stopped.run_dir / "rounds" / "02" / "round.json").is_file()
        resumed = start(actors, f"resume={stopped.run_dir}")
    tables = rounds(whole)
    assert list(tables) == [f"rounds/0{n}/{name}.parquet" for n in (1, 2) for name in ("pairs", "steps")]
    assert rounds(resumed) == tables
    assert measured(resumed) == measured(whole)
    last = [load_file(r.run_dir / "checkpoints" / "latest" / "model" / "model.safetensors") for r in (whole, resumed)]
    assert all(last[0][name].equal(last[1][name]) for name in last[0])
    steps = tables["rounds/01/steps.parquet"]
    inside = {row["right"] for row in steps if row["right"] is not None}
    assert {0.0, 1.0} <= inside <= {0.0, 0.5, 1.0}, "two completions of each step"
    for row in steps:
        if row["end"] == max(own["end"] for own in steps if own["question"] == row["question"]
                             and own["response"] == row["response"]) and not row["truncated"]:  # fmt: skip
            before = [own["right"] for own in steps if own["question"] == row["question"]
                      and own["response"] == row["response"] and own["end"] < row["end"]]  # fmt: skip
            verdict = None if 0.0 in before else float(row["outcome"] == "correct")
            assert row["right"] == verdict, "the grader's, unless a step before it is wrong"
    equal: dict[tuple[int, tuple[int, ...]], set[float]] = {}
    for row in steps:
        own = [o for o in steps if (o["question"], o["response"]) == (row["question"], row["response"])]
        before = tuple(token for other in own if other["end"] <= row["end"] for token in other["token_ids"])
        equal.setdefault((row["question"], before), set()).add(row["right"])
    assert all(len(verdicts) == 1 for verdicts in equal.values()), "a place is judged once"
    assert all(pair["chosen_ids"] != pair["rejected_ids"] for pair in tables["rounds/01/pairs.parquet"])


@pytest.mark.long
def test_a_recipe_with_a_second_model_is_rehearsed(tmp_path: Path) -> None:
    model = qwen_directory_or_skip(tmp_path / "qwen")
    (model / "config.json").unlink()
    data = data_dir("math_train.jsonl", "math500.jsonl")
    words = ["recipe=caspo_7b", "rehearse=true", f"model.path={model}", f"task.data_dir={data}"]
    command = [sys.executable, "-m", "carerl.run", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "a second model, for which this one stands in" in done.stdout
    (place,) = (tmp_path / "runs").glob("rehearse_caspo_7b-s100-*")
    record = json.loads((place / "rehearsal.json").read_text())
    assert record["passed"] and record["faults"] == []
    for kind in ("whole", "resumed"):
        tables = sorted(str(path.relative_to(place / kind)) for path in (place / kind).glob("rounds/*/*.parquet"))
        assert tables == [f"rounds/0{n}/{name}.parquet" for n in (1, 2, 3) for name in ("pairs", "steps")]
        assert pq.read_table(place / kind / "rounds" / "01" / "pairs.parquet").num_rows > 0
