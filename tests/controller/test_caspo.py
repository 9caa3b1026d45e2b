"""Rounds of preferences in this process: what they leave behind, and that a run which is stopped in one goes on.

Steps are judged by tosses of a coin, as in a rehearsal: drawn weights get nothing right. Not covered: what is learned
from right labels (``tests/e2e/test_caspo.py``), pairs and the loss (tests/preferences, tests/loss/test_preferred.py).
"""

from __future__ import annotations

import json
import math
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
from carerl.runs.jsonl import read_metrics
from tests.actors.in_process import crew_in_process
from tests.controller.rehearsal.test_rehearsal import base_model  # noqa: F401 (a fixture)
from tests.controller.stops import StopAt
from tests.metrics.declared import undeclared

pytestmark = pytest.mark.slow  # whole runs, two minutes of them

WORDS = [
    "recipe=caspo_tiny", "model.base_recipe=", "rollout.engine=hf", "rollout.max_batch_rows=4", "prompts_per_step=6",
    "steps=2", "preference.samples=4", "preference.pairs_per_update=8", "preference.completions=3", "rehearse=true",
    "evaluation.questions=2", "evaluation.questions_between=2", "evaluation.samples=2", "evaluation.scored_samples=2",
    "tracking.wandb=off", "tracking.display=quiet", "learner.optimizer.lr=.003",
]  # fmt: skip


def run(
    monkeypatch: pytest.MonkeyPatch, model: Path, *words: str, stop: tuple[str, int] = ("", 0), **crew: Any
) -> Result:
    config, flag = load(list(words)), StopFlag()
    with crew_in_process(monkeypatch, **crew) as actors:
        prepared = prepare(config, str(model))
        return launch.run(config, actors, str(model), StopAt(flag, *stop), flag, prepared)


def started(monkeypatch: pytest.MonkeyPatch, model: Path, place: Path, *words: str, **options: Any) -> Result:
    return run(monkeypatch, model, *WORDS, f"model.path={model}", f"run_dir={place}", *words, **options)


def weights(result: Result, step: int = 2) -> dict[str, torch.Tensor]:
    return load_file(result.run_dir / "checkpoints" / f"step_{step:06d}" / "model" / "model.safetensors")


def table(run_dir: Path, number: int, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    found: list[dict[str, Any]] = pq.read_table(run_dir / "rounds" / f"{number:02d}" / f"{name}.parquet").to_pylist()
    return found


def measured(run_dir: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in row.items() if not k.startswith(("time/", "system/"))}
        for row in read_metrics(run_dir / "metrics.jsonl")
    ]


def logprobs(model: Path, row: dict[str, Any], which: str) -> torch.Tensor:
    """The log-probs of a pair's step under a model directory, by transformers alone."""
    from transformers import AutoModelForCausalLM

    ids = row["prompt_ids"] + row[f"{which}_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model).eval()(torch.tensor([ids])).logits[0].log_softmax(-1)
    first = len(row["prompt_ids"])
    return torch.stack([logits[place - 1, ids[place]] for place in range(first, len(ids))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base_model: Path) -> Result:  # noqa: F811
    with pytest.MonkeyPatch.context() as patched:
        return started(patched, base_model, tmp_path_factory.mktemp("runs") / "whole")


def test_a_round_leaves_steps_pairs_and_what_it_measured(whole: Result, base_model: Path) -> None:  # noqa: F811
    assert (whole.status, whole.step) == ("completed", 2)
    for number in (1, 2):
        steps, pairs = table(whole.run_dir, number, "steps"), table(whole.run_dir, number, "pairs")
        record = json.loads((whole.run_dir / "rounds" / f"{number:02d}" / "round.json").read_text())
        (row,) = [row for row in measured(whole.run_dir) if row["step"] == number and "round/pairs" in row]
        assert row["round/pairs"] == len(pairs) == record["metrics"]["round/pairs"] > 0
        assert {own["weight_version"] for own in steps} == {number - 1}
        assert row["round/updates"] == -(-len(pairs) // 8)
        assert row["train/loss"] == row["preference/loss"] > 0 and "train/ce_loss" not in row, (
            "the loss, not its weights"
        )
        drawn = {(own["question"], own["response"]) for own in steps if not own["second"]}
        assert drawn == {(question, response) for question in range(6) for response in range(4)}
        texts = {own["example_id"] for own in steps}
        assert len(texts) == 6 and texts == {f"train/{6 * number + k}" for k in range(6)}, "behind the probe's prompts"
        for pair in pairs:
            assert pair["chosen_ids"] != pair["rejected_ids"] and pair["shared"] <= len(pair["prompt_ids"])
        assert any(pair["rule"] == "second" for pair in pairs)
    assert not undeclared(name for row in read_metrics(whole.run_dir / "metrics.jsonl") for name in row)


def test_the_reference_of_a_round_is_the_policy_at_its_start(whole: Result, base_model: Path) -> None:  # noqa: F811
    """The first round's are the weights of the run's start, the second round's those after the first one."""
    after = whole.run_dir / "checkpoints" / "step_000001" / "model"
    for number, model, other in ((1, base_model, after), (2, after, base_model)):
        for row in table(whole.run_dir, number, "pairs")[:3]:
            for which in ("chosen", "rejected"):
                found = torch.tensor(row[f"{which}_reference"])
                torch.testing.assert_close(found, logprobs(model, row, which), atol=2e-5, rtol=0)
                assert (found - logprobs(other, row, which)).abs().max() > 1e-3


def test_confidence_is_that_of_the_policy_that_drew_the_step(whole: Result, base_model: Path) -> None:  # noqa: F811
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_model).eval()
    rows = [row for row in table(whole.run_dir, 1, "steps") if row["question"] == 2 and row["response"] == 1]
    prompt = next(row["prompt_ids"] for row in table(whole.run_dir, 1, "pairs") if row["question"] == 2)
    shared = next(row["shared"] for row in table(whole.run_dir, 1, "pairs") if row["question"] == 2)
    prompt = prompt[: len(prompt) - shared]
    response = [token for row in rows for token in row["token_ids"]]
    with torch.no_grad():
        logp = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
    entropy = -(logp.exp() * logp).sum(-1)
    for row in rows:
        part = slice(row["start"], row["end"])
        assert row["confidence"] == pytest.approx(1 - float(entropy[part].mean()) / math.log(64), abs=1e-5)
        assert row["peak"] == pytest.approx(float(logp[part].max(-1).values.exp().mean()), abs=1e-5)


@pytest.mark.parametrize("stop", [("generate", 2), ("second", 1), ("train", 2)], ids=["sampled", "asked", "learned"])
def test_a_run_that_was_stopped_in_a_round_ends_like_one_that_was_not(
    stop: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    whole: Result,
    base_model: Path,  # noqa: F811
) -> None:
    """While the first round is sampled, while it asks for second tokens, and between two optimizer steps of the
    second."""
    stopped = started(monkeypatch, base_model, tmp_path / "stopped", stop=stop)
    before = 1 if stop[0] == "train" else 0
    assert (stopped.status, stopped.step) == ("interrupted", before)
    folder = stopped.run_dir / "rounds" / f"{before + 1:02d}"
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert kept or stop == ("generate", 2)
    resumed = run(monkeypatch, base_model, f"resume={stopped.run_dir}")
    assert (resumed.status, resumed.step) == ("completed", 2)
    for number in (1, 2):
        for name in ("steps", "pairs"):
            assert table(resumed.run_dir, number, name) == table(whole.run_dir, number, name)
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items() if path.exists()), "not drawn again"
    for found_row, row in zip(measured(resumed.run_dir), measured(whole.run_dir), strict=True):
        assert {k: repr(v) for k, v in found_row.items()} == {k: repr(v) for k, v in row.items()}
    found, wanted = weights(resumed), weights(whole)
    assert all(found[name].equal(wanted[name]) for name in wanted)


def test_responses_that_wait_for_verdicts_outlast_a_stop(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    whole: Result,
    base_model: Path,  # noqa: F811
) -> None:
    """Completions judge, and are stopped: the run goes on with judging, before it draws anything. Tosses replace their
    verdicts, so that the tables are those of the other run but for what judging took."""

    def rows(result: Result, name: str) -> list[dict[str, Any]]:
        return [{**row, "judge_tokens": 0} for row in table(result.run_dir, 1, name)]

    words = ["steps=1", "preference.label=monte_carlo"]
    stopped = started(monkeypatch, base_model, tmp_path / "stopped", *words, stop=("judge", 1))
    folder = stopped.run_dir / "rounds" / "01"
    assert list(folder.glob("drawn.parts/*")) and not list(folder.glob("steps.parts/*"))
    again = run(monkeypatch, base_model, f"resume={stopped.run_dir}", stop=("generate", 1))
    assert again.status == "interrupted" and len(list(folder.glob("steps.parts/*"))) == 2, "a question each"
    resumed = run(monkeypatch, base_model, f"resume={stopped.run_dir}")
    assert (resumed.status, resumed.step) == ("completed", 1) and not list(folder.glob("*.parts"))
    assert all(rows(resumed, name) == rows(whole, name) for name in ("steps", "pairs"))
    assert sum(row["judge_tokens"] for row in table(resumed.run_dir, 1, "steps")) > 0
    found, other = (
        next(row for row in measured(result.run_dir) if row["step"] == 1 and "round/pairs" in row)
        for result in (resumed, whole)
    )
    assert found["round/judge_tokens"] > 0 and found["rollout/mismatch_max"] > 0
    shared = [name for name in found if name.startswith(("round/", "rollout/")) and name in other]
    assert {"round/step_ece", "round/updates"} <= set(shared)
    assert [found[name] for name in shared] == [other[name] for name in shared]


def test_a_stop_in_the_last_optimizer_step_does_not_lose_the_round(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
) -> None:
    words = ["steps=1", "preference.pairs_per_update=64"]
    assert started(monkeypatch, base_model, tmp_path / "stopped", *words, stop=("train", 1)).step == 1


def test_other_settings_begin_a_round_anew(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
) -> None:
    stopped = started(monkeypatch, base_model, tmp_path / "stopped", stop=("train", 2))
    before = table(stopped.run_dir, 2, "steps")
    same = ["preference.beta=.2", "preference.epochs=2"]  # what was drawn does not depend on them
    resumed = run(monkeypatch, base_model, f"resume={stopped.run_dir}", *same, stop=("train", 1))
    assert table(resumed.run_dir, 2, "steps") == before
    resumed = run(monkeypatch, base_model, f"resume={stopped.run_dir}", "preference.samples=3", stop=("train", 1))
    assert {row["response"] for row in table(resumed.run_dir, 2, "steps") if not row["second"]} == {0, 1, 2}
