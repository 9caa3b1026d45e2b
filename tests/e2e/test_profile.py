"""``profile=true`` on real runs: what it leaves, that it accounts for the time, and that it changes no result.

Not covered: a GPU's operations, and a cluster of several machines, whose clocks differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import load
from carerl.controller.launch import launch
from carerl.controller.session import Result

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SMALL = [
    "prompts_per_step=8", "algorithm.group_size=4", "model.base_overrides=[steps=60]", "task.evaluation_questions=10",
    "task.evaluation_facts=10", "task.evaluation_unknown=10", "evaluation.samples=4", "evaluation.every=0",
    "tracking.rollouts_every=4", "tracking.wandb=off",
]  # fmt: skip


def profiled(place: Path, recipe: str, *words: str) -> Result:
    quiet = ["tracking.display=quiet", "profile=true", f"run_dir={place}"]
    return launch(load([f"recipe={recipe}", *words, *quiet]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is profiled."""
    result = profiled(tmp_path_factory.mktemp("profiled") / "run", "care_grpo_tiny", "steps=8", *SMALL)
    assert result.status == "completed"
    return result.run_dir


def events(run_dir: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run_dir / "profile.json").read_text())["traceEvents"]
    return found


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "system/"))} for row in rows]


def test_the_trace_has_every_process_and_what_it_did(run: Path) -> None:
    found = events(run)
    named = {e["pid"]: e["args"]["name"].split(" (")[0] for e in found if e["name"] == "process_name"}
    assert sorted(named.values()) == ["driver", "grading 0", "learner 0", "reference 0", "rollout 0"]
    whole = [e for e in found if e["ph"] == "X"]
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in whole)
    seen = {(named[e["pid"]], e["name"]) for e in whole}
    assert {
        ("learner 0", "LearnerWorker.update"), ("rollout 0", "EngineWorker.advance"),
        ("rollout 0", "EngineWorker.update_weights"), ("learner 0", "LearnerWorker.send"),
        ("reference 0", "ReferenceWorker.streams"),
        ("grading 0", "GraderWorker.grade"), ("driver", "generate"),
        ("driver", "ray.put"), ("driver", "ray.get: copy"), ("learner 0", "task:deserialize_arguments"),
        ("driver", "submit_task"), ("learner 0", "aten::mm"),
    } <= seen  # fmt: skip
    assert any(name == "rollout 0" and "engines/vllm.py:VLLMEngine.advance" in what for name, what in seen)


def test_the_table_accounts_for_the_steps(run: Path) -> None:
    """Named phases cover nine tenths of the steps, and the working actor is busy for most of its phase."""
    text = (run / "profile.txt").read_text()
    lines = text[text.index("steps 3 to 7") :].splitlines()
    lines = lines[: 1 + next(k for k, line in enumerate(lines) if line.startswith("  all "))]
    wall = {line.split()[0]: float(line.split()[1]) for line in lines[2:] if line[2] != " "}
    every = wall.pop("all")
    assert {"generate", "reward", "reference", "train", "sync", "between"} <= set(wall)
    assert sum(wall.values()) == pytest.approx(every, abs=1)
    assert every - wall["between"] > 0.9 * every
    rows = {
        row["step"]: row
        for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if "time/step" in row
    }
    logged = 1000 * sum(rows[step]["time/step"] for step in range(3, 8)) / 5
    assert every == pytest.approx(logged, rel=0.05)
    at = next(k for k, line in enumerate(lines) if line.strip().startswith("train"))
    name, number, *parts = lines[at + 1].split()  # the driver's line is the first
    assert (name, number) == ("learner", "0")
    computing, _, blocked, _ = map(float, parts)
    assert computing + blocked > 0.7 * wall["train"]


def test_it_changes_no_result(run: Path, tmp_path: Path) -> None:
    plain = launch(
        load(["recipe=care_grpo_tiny", "steps=8", *SMALL, "tracking.display=quiet", f"run_dir={tmp_path / 'r'}"])
    )
    assert not (plain.run_dir / "profile.json").exists()
    assert metrics(plain.run_dir) == metrics(run)


def test_a_base_models_training_is_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARERL_CACHE", str(tmp_path / "cache"))
    result = profiled(tmp_path / "run", "base_tiny", "steps=81", "tracking.wandb=off", "checkpoint.every=0")
    text = (result.run_dir / "profile.txt").read_text()
    assert "steps 21 to 60" in text and "steps 61 to 80: torch's operations" in text
    assert "learners/loop.py:LearnerLoop.update" in text and "aten::mm" in text
