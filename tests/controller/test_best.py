"""The model that is kept as the best one. Weights are a stand-in; tests/e2e/test_pipeline.py keeps real ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.backends.hashed import Written, hashed
from carerl.config.load import load
from carerl.config.selection import full_name
from carerl.controller import best
from carerl.runs.directory import RunDirectory
from carerl.tracking.display import QuietDisplay

RULE = "accuracy subject to ece <= 0.1"


class Weights:
    """Exports the step whose weights it holds."""

    def __init__(self) -> None:
        self.step = 0

    def export(self, directory: Path, tokenizer: Any, dtype: str) -> dict[str, Written]:
        directory.mkdir(parents=True)
        for name in ("config.json", "generation_config.json"):
            (directory / name).write_text("{}")
        written: dict[str, Written] = {}
        with hashed(directory / "model.safetensors", written) as file:
            file.write(str(self.step).encode())
        return written


class Loop:
    """The evaluations of a run, one after the other."""

    def __init__(self, path: Path, rule: str = RULE, every: int = 50) -> None:
        self.weights = Weights()
        words = ["recipe=care_grpo_tiny", "task.validation_questions=50", f"checkpoint.best={rule}"]
        self.run = RunDirectory(path)
        self.run.checkpoints.mkdir(parents=True, exist_ok=True)
        self.context: Any = SimpleNamespace(
            config=load([*words, f"checkpoint.every={every}"]),
            run=self.run,
            crew=SimpleNamespace(learner=self.weights),
            tokenizer=None,
            display=QuietDisplay(),
            unfinished=None,
        )

    def evaluated(self, step: int, accuracy: float, ece: float | None) -> int | None:
        """The step of the model that is the best one after this evaluation, from its weights."""
        self.weights.step = step
        figures = {"accuracy": accuracy, "ece": ece}
        metrics = {full_name(name): value for name, value in figures.items() if value is not None}
        best.keep(self.context, step, metrics | {"eval/accuracy": 1.0})
        return self.chosen()

    def chosen(self) -> int | None:
        model = self.run.checkpoints / "best" / "model" / "model.safetensors"
        record = best.read(self.run)
        assert (record is None) == (not model.exists())
        assert record is None or int(model.read_text()) == record["step"]
        return record["step"] if record else None

    def kept(self) -> set[str]:
        return {path.name for path in self.run.checkpoints.iterdir()} - {"best"}


def test_the_best_is_the_most_accurate_that_keeps_the_bound(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    evaluations = [
        (0, 0.3, 0.05),
        (50, 0.6, 0.2),
        (100, 0.5, 0.08),
        (150, 0.5, 0.01),
        (200, 0.9, None),
        (250, 0.7, 0.1),
    ]
    assert [loop.evaluated(*figures) for figures in evaluations] == [0, 0, 100, 100, 100, 250]
    record = json.loads((tmp_path / "checkpoints" / "best" / "best.json").read_text())
    assert record["rule"] == RULE and record["metrics"] == {full_name("accuracy"): 0.7, full_name("ece"): 0.1}
    assert "step 250 (accuracy 0.700, ece 0.100)" in best.report(loop.run, RULE)


def test_where_none_keeps_the_bound_none_is_kept(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    assert [loop.evaluated(step, 0.9, 0.5) for step in (0, 50)] == [None, None]
    assert loop.kept() == set() and "none of the models" in best.report(loop.run, RULE)


def test_the_best_of_the_newest_checkpoint_stays_until_the_next(tmp_path: Path) -> None:
    """A run that is killed after step 75 goes on from step 50, and has the model of step 25 still."""
    loop = Loop(tmp_path)
    loop.evaluated(0, 0.1, 0.0)
    loop.evaluated(25, 0.3, 0.0)
    best.forget(loop.run)  # the checkpoint of step 50 is written
    assert loop.kept() == {"best_000025"}
    assert loop.evaluated(75, 0.5, 0.0) == 75
    assert loop.kept() == {"best_000025", "best_000075"}
    best.go_back(loop.run, 50, RULE)
    assert loop.chosen() == 25 and loop.kept() == {"best_000025"}
    assert loop.evaluated(75, 0.5, 0.0) == 75  # what follows is made again
    best.forget(loop.run)
    assert loop.kept() == {"best_000075"}


def test_going_back_before_the_first_leaves_none(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    assert loop.evaluated(75, 0.5, 0.0) == 75
    best.go_back(loop.run, 50, RULE)
    assert loop.chosen() is None and loop.kept() == set()


@pytest.mark.parametrize(("rule", "expected"), [("accuracy subject to ece <= 0.01", 0), ("", 75)])
def test_a_leg_with_another_rule_chooses_among_what_is_kept(tmp_path: Path, rule: str, expected: int) -> None:
    loop = Loop(tmp_path)
    loop.evaluated(0, 0.1, 0.0)
    loop.evaluated(75, 0.5, 0.05)
    best.go_back(loop.run, 100, rule)
    assert loop.chosen() == expected


def test_without_checkpoints_only_the_best_takes_room(tmp_path: Path) -> None:
    loop = Loop(tmp_path, every=0)
    for step, accuracy in ((0, 0.1), (50, 0.5), (100, 0.3), (150, 0.6)):
        loop.evaluated(step, accuracy, 0.0)
        assert len(loop.kept()) == 1
    assert loop.kept() == {"best_000150"}
