"""Runs of RL with anchors, in this process: who answers them, what is kept, and that a run without them stays as it is.

Not covered: gradients (``loss/test_anchored.py``), sources (``tasks/tiny/test_anchors.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carerl.config.load import load
from carerl.controller import launch
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.preparation import prepare
from carerl.controller.session import Result
from carerl.runs.anchors import read_anchors
from carerl.runs.jsonl import read_metrics
from carerl.tasks import TASKS
from carerl.types import RunError
from tests.actors.in_process import crew_in_process
from tests.controller.rehearsal.test_rehearsal import base_model  # noqa: F401 (a fixture)
from tests.controller.stops import StopAt
from tests.metrics.declared import undeclared

pytestmark = pytest.mark.slow  # whole runs, a minute and a half of them

WORDS = [
    "model.base_recipe=", "rollout.engine=hf", "prompts_per_step=4", "algorithm.group_size=4", "steps=3",
    "rehearse=true", "evaluation.every=0", "evaluation.questions=2", "evaluation.samples=2",
    "learner.optimizer.lr=.003", "evaluation.scored_samples=2", "tracking.wandb=off", "tracking.display=quiet",
    "reference.report_every=0",
]  # fmt: skip
ANCHORS = ["anchor.name=prompts", "anchor.source=names", "anchor.per_step=6", "anchor.max_new_tokens=5"]


def run(monkeypatch: pytest.MonkeyPatch, model: Path, *words: str, stop_at: int | str = 0) -> Result:
    config, flag = load(list(words)), StopFlag()
    with crew_in_process(monkeypatch) as actors:
        prepared = prepare(config, str(model))
        return launch.run(config, actors, str(model), StopAt(flag, stop_at), flag, prepared)


def started(monkeypatch: pytest.MonkeyPatch, model: Path, place: Path, *words: str, **options: Any) -> Result:
    recipe = next((word for word in words if word.startswith("recipe=")), "recipe=none_grpo_tiny")
    rest = [word for word in words if not word.startswith("recipe=")]
    return run(monkeypatch, model, recipe, *WORDS, f"model.path={model}", f"run_dir={place}", *rest, **options)


def weights(result: Result) -> dict[str, torch.Tensor]:
    return load_file(result.run_dir / "checkpoints" / "step_000003" / "model" / "model.safetensors")


def measured(result: Result) -> list[dict[str, float]]:
    return [
        {k: v for k, v in row.items() if not k.startswith(("time/", "system/"))}
        for row in read_metrics(result.run_dir / "metrics.jsonl")
        if "train/loss" in row
    ]


def same(one: Result, other: Result) -> bool:
    ends = weights(one), weights(other)
    return measured(one) == measured(other) and all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base_model: Path) -> Result:  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        return started(patch, base_model, tmp_path_factory.mktemp("anchors") / "whole", *ANCHORS)


def test_the_reference_answers_all_anchors_before_the_first_step(whole: Result, base_model: Path) -> None:  # noqa: F811
    assert (whole.status, whole.step) == ("completed", 3)
    found = read_anchors(whole.run_dir / "anchors.parquet")
    config = load(["recipe=none_grpo_tiny"])
    prompts = TASKS["tiny"].build(config.task, config.seed).anchor_prompts("names", 0, 18)  # type: ignore[attr-defined]
    assert [own.prompt_ids for own in found] == prompts and all(1 <= len(own.response_ids) <= 5 for own in found)
    rows = measured(whole)
    for number, row in enumerate(rows):
        tokens = sum(len(own.response_ids) for own in found[6 * number : 6 * number + 6])
        assert row["anchor/tokens"] == tokens and row["train/tokens"] == row["rollout/tokens"] + tokens
        assert row["anchor/share"] == pytest.approx(tokens / row["train/tokens"])
    assert rows[0]["anchor/divergence"] < rows[2]["anchor/divergence"], "what the reward changes moves anchors too"
    names = {name for row in read_metrics(whole.run_dir / "metrics.jsonl") for name in row}
    assert not undeclared(names) and "time/anchors" not in names


def test_the_responses_are_likely_under_the_reference(whole: Result, base_model: Path) -> None:  # noqa: F811
    """Their mean log-prob by transformers alone is that of the distribution's own samples: minus its mean entropy."""
    from transformers import AutoModelForCausalLM

    decoder = AutoModelForCausalLM.from_pretrained(base_model).eval()
    gaps = []
    for own in read_anchors(whole.run_dir / "anchors.parquet"):
        ids = torch.tensor([[*own.prompt_ids, *own.response_ids]])
        with torch.no_grad():
            logp_SV = decoder(ids).logits[0].log_softmax(-1)[len(own.prompt_ids) - 1 : -1]
        drawn_S = logp_SV.gather(1, torch.tensor(own.response_ids)[:, None])[:, 0]
        gaps += (drawn_S + -(logp_SV.exp() * logp_SV).sum(-1)).tolist()
    error = torch.tensor(gaps).std() / len(gaps) ** 0.5
    assert abs(sum(gaps) / len(gaps)) < 4 * float(error)


def test_they_are_drawn_at_the_temperature_of_the_rollouts(
    whole: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    first = read_anchors(whole.run_dir / "anchors.parquet")[:6]
    for temperature, same_ones in ((1.0, True), (0.4, False)):
        words = [*ANCHORS, "steps=1", f"rollout.temperature={temperature}", "evaluation.at_start=false"]
        short = started(monkeypatch, base_model, tmp_path / str(temperature), *words, "evaluation.at_end=false")
        found = read_anchors(short.run_dir / "anchors.parquet")
        assert [own.prompt_ids for own in found] == [own.prompt_ids for own in first]
        assert (found == first) is same_ones


def test_a_run_that_was_stopped_uses_the_same_anchors(
    whole: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    early = started(monkeypatch, base_model, tmp_path / "early", *ANCHORS, stop_at="anchors")
    assert (early.status, early.step) == ("interrupted", 0) and not (early.run_dir / "anchors.parquet").exists()
    stopped = started(monkeypatch, base_model, tmp_path / "stopped", *ANCHORS, stop_at=1)
    assert (stopped.status, stopped.step) == ("interrupted", 1)
    assert same(run(monkeypatch, base_model, f"resume={stopped.run_dir}"), whole)


def test_without_the_file_a_run_does_not_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    stopped = started(monkeypatch, base_model, tmp_path / "run", *ANCHORS, stop_at=1)
    (stopped.run_dir / "anchors.parquet").unlink()
    with pytest.raises(RunError, match="do not hold its weights any more"):
        run(monkeypatch, base_model, f"resume={stopped.run_dir}")


def test_a_weight_of_0_is_the_run_without_to_the_last_bit(
    whole: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    none = started(monkeypatch, base_model, tmp_path / "none")
    off = started(monkeypatch, base_model, tmp_path / "off", *ANCHORS, "anchor.weight=0")
    assert same(none, off) and not (off.run_dir / "anchors.parquet").exists()
    held = weights(whole)
    assert any(not torch.equal(held[name], tensor) for name, tensor in weights(none).items())
    rows, without = measured(whole), measured(none)
    assert rows[0]["rollout/mismatch_max"] == without[0]["rollout/mismatch_max"], "anchors are in no comparison"
    assert rows[0]["train/policy_loss"] == pytest.approx(without[0]["train/policy_loss"], abs=1e-7)


def test_the_policy_answers_in_each_step_what_it_would_say_then(
    whole: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    own = [*ANCHORS, "anchor.sampler=policy", "anchor.divergence=srkl"]
    found = started(monkeypatch, base_model, tmp_path / "policy", *own)
    assert found.status == "completed" and not (found.run_dir / "anchors.parquet").exists()
    assert all("time/anchors" in row for row in read_metrics(found.run_dir / "metrics.jsonl") if "train/loss" in row)
    stopped = started(monkeypatch, base_model, tmp_path / "stopped", *own, stop_at=2)
    assert stopped.step == 2 and same(run(monkeypatch, base_model, f"resume={stopped.run_dir}"), found)
