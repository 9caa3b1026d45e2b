"""The evaluation of the model before training, which runs of a sweep share. The runs are real, their workers in this
process.

Which cells are twins is ``tests/config/test_sweep.py``'s; Ray and the command are ``tests/e2e/test_commands.py``'s."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carerl.actors.workers.engine import EngineWorker
from carerl.config.load import load
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.launch import run
from carerl.controller.models import base_model
from carerl.runs.directory import RunDirectory
from carerl.runs.jsonl import read_metrics
from carerl.runs.samples import read_samples
from carerl.runs.tables import evaluation_metrics, read_questions
from carerl.tracking.display import QuietDisplay
from tests.actors.in_process import crew_in_process

WORDS = [
    "rollout.engine=hf", "tracking.wandb=off", "tracking.display=quiet", "model.base_overrides=[steps=1]", "steps=1",
    "learner.threads=1", "reference.threads=1", "rollout.threads=1", "prompts_per_step=2", "algorithm.group_size=2",
    "evaluation.questions=2", "evaluation.samples=2", "seed=100",
    *(f"sync.{name}_abort=1000" for name in ("probe_mean", "probe_q999", "mismatch_mean", "mismatch_q999")),
]  # fmt: skip


class Counting(EngineWorker):
    """Counts the prompts that it is asked, until a run has ended."""

    asked = 0

    def submit(self, requests: Any, *rest: Any) -> None:
        Counting.asked += len(requests)
        super().submit(requests, *rest)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Returns a function that carries out a run with twins, and tells how many prompts it asked."""
    with crew_in_process(monkeypatch, rollout=Counting) as actors:

        def train(name: str, words: list[str], *twins: Path) -> tuple[RunDirectory, int]:
            config = load([*words, *WORDS, f"run_dir={tmp_path / name}"])
            stop, before = StopFlag(), Counting.asked
            model_dir = base_model.model_directory(config, actors.learner, QuietDisplay(), stop)
            result = run(config, actors, model_dir, QuietDisplay(), stop, twins=twins)
            assert result.status == "completed" and result.base
            return RunDirectory(result.run_dir), Counting.asked - before

        yield train


def test_a_run_takes_over_what_it_would_have_measured_itself(trained: Any) -> None:
    first, asked = trained("first", ["recipe=none_grpo_tiny"])
    alone, asked_alone = trained("alone", ["recipe=care_grpo_tiny"])
    with_twin, asked_less = trained("with_twin", ["recipe=care_grpo_tiny"], first.path.parent / "never", first.path)
    assert asked == asked_alone and asked - asked_less == 2 * 5, "two questions of each of the five suites, once less"
    own = evaluation_metrics(alone, 0)
    assert own == evaluation_metrics(with_twin, 0) == evaluation_metrics(first, 0) and len(own) > 5
    for read in (read_questions, read_samples):
        assert read(with_twin.evaluations, 0) == read(alone.evaluations, 0) != []
    assert evaluation_metrics(with_twin, 1) == evaluation_metrics(alone, 1), "training is not changed by it"
    record = json.loads((with_twin.evaluations / "step_000000.json").read_text())
    assert record["taken_from"] == "first"
    assert "taken_from" not in json.loads((first.evaluations / "step_000000.json").read_text())
    logged = next(row for row in read_metrics(with_twin.metrics) if row["step"] == 0 and "eval/accuracy" in row)
    assert logged["eval/accuracy"] == own["eval/accuracy"]
    assert json.loads((with_twin.path / "summary.json").read_text())["base"] == pytest.approx(own, nan_ok=True)


def test_other_questions_and_other_weights_are_not_taken_over(trained: Any) -> None:
    first, asked = trained("first", ["recipe=none_grpo_tiny"])
    other, asked_other = trained("other", ["recipe=none_grpo_tiny", "evaluation.seed=7"], first.path)
    assert asked_other == asked and "taken_from" not in (other.evaluations / "step_000000.json").read_text()
    record = json.loads((first.path / "base_model.json").read_text())
    (first.path / "base_model.json").write_text(json.dumps({**record, "identity": "sha256:others"}))
    changed, asked_changed = trained("changed", ["recipe=none_grpo_tiny"], first.path)
    assert asked_changed == asked and "taken_from" not in (changed.evaluations / "step_000000.json").read_text()
