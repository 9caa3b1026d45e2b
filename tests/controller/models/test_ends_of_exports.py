"""A model whose generation_config.json names more end tokens than its config.json: a run's export names all of them,
and asked by itself it ends its responses as it did in the loop. Real workers, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carerl.actors.workers.learner import LearnerWorker
from carerl.config.evaluate import evaluation_config
from carerl.config.load import load, read
from carerl.config.schema import RunConfig
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.launch import run
from carerl.controller.preparation import prepare, with_end_ids
from carerl.tasks.byte_tokenizer import EOS
from carerl.tracking.display import QuietDisplay
from tests.actors.in_process import crew_in_process
from tests.backends.model_directories import replaced, sound

ALSO = 7  # named by generation_config.json alone


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    stated = json.dumps({"eos_token_id": [EOS, ALSO], "pad_token_id": 0}).encode()
    return replaced(sound(tmp_path / "model"), "generation_config.json", stated)


def settings(folder: Path, model_dir: Path) -> RunConfig:
    for name, sign in (("train", "+"), ("test", "*")):
        rows = [json.dumps({"question": f"What is {n} {sign} 1?", "answer": str(n)}) for n in range(4)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return load(
        ["recipe=care_grpo_tiny", f"model.path={model_dir}", "task.name=jsonl", f"task.train={folder / 'train.jsonl'}",
         f"task.benchmarks=[{folder / 'test.jsonl'}]", "task.prompt_template='{question}'", "rollout.engine=hf",
         "rollout.max_model_len=64", "rollout.max_new_tokens=8", "regularizer.estimator=score", "steps=1",
         "prompts_per_step=2", "algorithm.group_size=2", "algorithm.minibatches=1", "evaluation.samples=1",
         "evaluation.at_start=false", "evaluation.scored_samples=1", "tracking.wandb='off'",
         "tracking.display=quiet", f"run_dir={folder / 'run'}"]
    )  # fmt: skip


def test_an_export_names_every_token_that_ends_a_response(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, model_dir)
    with crew_in_process(monkeypatch) as actors:
        result = run(config, actors, str(model_dir), QuietDisplay(), StopFlag(signals=()))
    assert result.status == "completed"
    assert read(tmp_path / "run" / "config.yaml").rollout.end_ids == [EOS, ALSO]
    export = tmp_path / "run" / "checkpoints" / "latest" / "model"
    for name in ("generation_config.json", "config.json"):
        assert json.loads((export / name).read_text())["eos_token_id"] == [EOS, ALSO], name
    alone = evaluation_config([f"model={tmp_path / 'run'}", "engine=hf"])
    task, _ = prepare(alone, alone.model.path)
    assert with_end_ids(alone, task, alone.model.path).rollout.end_ids == [EOS, ALSO]


def test_so_does_that_of_a_run_that_samples_nothing(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervised run has found no end tokens of its own."""
    with crew_in_process(monkeypatch):
        worker = LearnerWorker()
        worker.load(settings(tmp_path, model_dir), str(model_dir))
        worker.export(str(tmp_path / "export"), None, True, "float32")
        worker.write()
    stated = json.loads((tmp_path / "export" / "generation_config.json").read_text())
    assert stated["eos_token_id"] == [EOS, ALSO]
