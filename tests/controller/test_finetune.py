"""A run of supervised finetuning, in this process: what it learns, when engines get weights, and that it can go on.

The rows that a task teaches: tests/tasks. Gradients of the cross-entropy: tests/loss/test_objective.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carerl.config.load import load
from carerl.controller import launch
from carerl.controller import weights as controller_weights
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.preparation import prepare
from carerl.controller.session import Result
from carerl.loss.batching import plan_supervised
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_evaluations
from carerl.tasks import TinyTask
from tests.actors.in_process import crew_in_process
from tests.controller.rehearsal.test_rehearsal import base_model  # noqa: F401 (a fixture)
from tests.controller.stops import StopAt

WORDS = [
    "recipe=sft_decision_tiny", "model.base_recipe=", "rollout.engine=hf", "prompts_per_step=8", "steps=6",
    "checkpoint.every=3", "evaluation.every=4", "evaluation.at_start=true", "evaluation.questions=2",
    "evaluation.questions_between=2", "evaluation.samples=2", "evaluation.scored_samples=2", "tracking.wandb=off",
    "tracking.display=quiet",
]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, model: Path, *words: str, stop_at: int = 0) -> tuple[Result, list[int]]:
    """A run, and the versions of the weights that the engine was sent."""
    config, stop, sent = load(list(words)), StopFlag(), list[int]()
    sync = controller_weights.synchronise

    def recorded(crew: Any, version: int) -> dict[str, float]:
        sent.append(version)
        return sync(crew, version)

    with crew_in_process(monkeypatch) as actors, monkeypatch.context() as patched:
        patched.setattr(controller_weights, "synchronise", recorded)
        prepared = prepare(config, str(model))
        result = launch.run(config, actors, str(model), StopAt(stop, stop_at), stop, prepared)
    return result, sent


def started(monkeypatch: pytest.MonkeyPatch, model: Path, place: Path, **options: Any) -> tuple[Result, list[int]]:
    return run(monkeypatch, model, *WORDS, f"model.path={model}", f"run_dir={place}", **options)


def weights(result: Result) -> dict[str, torch.Tensor]:
    return load_file(result.run_dir / "checkpoints" / "step_000006" / "model" / "model.safetensors")


def trained(result: Result) -> list[dict[str, float]]:
    """What each step measured, without times and sizes of processes."""
    rows = [row for row in read_metrics(result.run_dir / "metrics.jsonl") if "train/loss" in row]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "system/"))} for row in rows]


@pytest.mark.slow
def test_it_learns_goes_on_and_is_evaluated(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
) -> None:
    result, sent = started(monkeypatch, base_model, tmp_path / "whole")
    assert (result.status, result.step) == ("completed", 6)
    assert sent == [0, 4, 6], "engines get weights for evaluations alone"
    assert [found["step"] for found in read_evaluations(result.run_dir / "evaluations")] == [0, 4, 6]
    assert "eval/kl_per_sequence" in result.final, "the reference is there"
    found = trained(result)
    assert found[-1]["train/ce_loss"] < found[0]["train/ce_loss"]
    loss, certainty = by_peers(base_model)
    assert found[0]["train/ce_loss"] == pytest.approx(loss, abs=1e-5)
    assert found[0]["train/certainty"] == pytest.approx(certainty, rel=1e-4) and certainty > 0.01
    assert all("train/certainty" in row for row in found)
    assert not any(name.startswith(("rollout/", "decision/")) for row in found for name in row)
    state = json.loads((result.run_dir / "checkpoints" / "step_000006" / "state.json").read_text())
    assert state["loop"]["position"] == (1 + 6) * 8, "where RL would be, behind the questions of the probe"
    assert "cross-entropy" in (result.run_dir / "report.html").read_text()

    stopped, _ = started(monkeypatch, base_model, tmp_path / "stopped", stop_at=2)
    assert (stopped.status, stopped.step) == ("interrupted", 2)
    resumed, sent = run(monkeypatch, base_model, f"resume={tmp_path / 'stopped'}")
    assert (resumed.status, resumed.step, sent) == ("completed", 6, [2, 4, 6])
    assert trained(resumed) == found
    ends = weights(result), weights(resumed)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0] | ends[1])
    starts = load_file(base_model / "model.safetensors")
    assert any(not torch.equal(starts[name], ends[0][name]) for name in starts)


def by_peers(model: Path) -> tuple[float, float]:
    """The loss of the first step as transformers computes it: its own shift and mask, a row at a time. And the mean of
    KL(uniform ‖ p) over the same tokens by torch's divergence."""
    from transformers import AutoModelForCausalLM

    config = load([*WORDS, f"model.path={model}"])
    task = TinyTask(config.task, config.seed)
    decoder = AutoModelForCausalLM.from_pretrained(model)
    total = tokens = certainty = 0.0
    for example in task.train_examples(8, 8):  # the first 8 belong to the probe, as in RL
        target = task.target(example)
        labels = torch.tensor([[-100] * len(example.prompt_ids) + list(target)])
        with torch.no_grad():
            found = decoder(input_ids=torch.tensor([[*example.prompt_ids, *target]]), labels=labels)
        logp_TV = found.logits[0, len(example.prompt_ids) - 1 : -1].log_softmax(-1)
        uniform_TV = torch.full_like(logp_TV, 1 / logp_TV.shape[1])
        total, tokens = total + float(found.loss) * len(target), tokens + len(target)
        certainty += float(torch.nn.functional.kl_div(logp_TV, uniform_TV, reduction="sum"))
    return total / tokens, certainty / tokens


def test_the_mean_is_over_the_tokens_of_the_step() -> None:
    """Responses of 1 and 3 tokens: four tokens of one weight each, and not two responses."""
    made = plan_supervised([((5, 6), (7,)), ((5,), (8, 9, 1))])
    (minibatch,) = made.minibatches
    assert minibatch.rows == (0, 1) and minibatch.normalisers.ce == 4.0 and made.empty == 0
    assert made.batch.ce_weight_BT is not None
    assert made.batch.ce_weight_BT.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert made.batch.advantages_BT is None and made.batch.policy_weight_BT is None
