"""Runs on text with prompts that are too long, as a person calls them: counted, said and recorded, with and without
evaluations. The model is the untrained one that reads bytes; the engine is the plain one, which starts sooner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_evaluations
from carerl.tasks.byte_tokenizer import EOS, VOCAB_SIZE
from tests.e2e.test_commands import command

pytestmark = pytest.mark.e2e

LONG = "x" * 500
OFF = ["evaluation.every=0", "evaluation.at_start=false", "evaluation.at_end=false"]


def settings(folder: Path) -> list[str]:
    for name, sign, long in (("train", "+", 7), ("test", "-", 3)):
        rows = [
            {"id": f"{name}{i}", "question": f"What is {i} {sign} {i}?{LONG if i == long else ''}", "answer": "0"}
            for i in range(12)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [
        "recipe=care_grpo_tiny", "model.base_recipe=base_bytes", f"model.shape.vocab_size={VOCAB_SIZE}",
        "model.shape.context_length=2048", "task.name=jsonl", f"task.train={folder / 'train.jsonl'}",
        "rollout.max_model_len=256", "rollout.max_new_tokens=16", "regularizer.estimator=score", "rollout.engine=hf",
        "prompts_per_step=4", "algorithm.group_size=4", "tracking.wandb=off", "tracking.display=plain", "steps=2",
    ]  # fmt: skip


@pytest.mark.timeout(600)
def test_a_run_that_evaluates_nothing_needs_no_benchmarks_and_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = command("run", *settings(tmp_path), *OFF, f"run_dir={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training prompts: 1 of 12 have more than 240 tokens" in done.stdout and "the longest, train7" in done.stdout
    assert f"a response ends at <eos> ({EOS})" in done.stdout
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert (stored["task"]["max_prompt_tokens"], stored["rollout"]["end_ids"]) == (240, [EOS])
    summary = json.loads((run / "summary.json").read_text())
    counted = summary["prompts"]["training"]
    assert (counted["too_long"], counted["longest"]["id"]) == (1, "train7") and counted["longest"]["tokens"] > 500
    assert (summary["status"], summary["base"], summary["final"]) == ("completed", {}, {})
    assert not read_evaluations(run / "evaluations") and (run / "report.html").is_file()
    resumed = command("run", f"resume={run}", "steps=3", "rollout.max_model_len=1024", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "1 of 12 have more than 240 tokens" in resumed.stdout, "as at its start"
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl") if "train/loss" in row] == [1, 2, 3]
    exported = json.loads((run / "checkpoints" / "latest" / "model" / "generation_config.json").read_text())
    assert exported["eos_token_id"] == EOS
    compared = command("compare", str(run), cwd=tmp_path)
    assert compared.returncode == 2 and "no final evaluation" in compared.stderr


@pytest.mark.timeout(600)
def test_questions_that_do_not_fit_are_counted_in_the_loop_and_by_the_command(tmp_path: Path) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    words = [f"task.benchmarks=[{tmp_path / 'test.jsonl'}]", "evaluation.samples=2", "evaluation.every=0"]
    done = command("run", *settings(tmp_path), *words, f"run_dir={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "evaluation test: 1 of 12 questions are not asked" in done.stdout and "the longest, test3" in done.stdout
    assert "test questions not asked: too long" in done.stdout, "in the table at the end"
    asked = command("evaluate", f"model={run}", f"out={alone}", cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert "1 of 12 questions are not asked" in asked.stdout and "not asked: too long" in asked.stdout
    for record in (*read_evaluations(run / "evaluations"), *read_evaluations(alone / "evaluations")):
        assert record["metrics"]["eval/test/too_long"] == 1
    for place in (run, alone):
        counted = json.loads((place / "summary.json").read_text())["prompts"]["evaluation"]["test"]
        assert (counted["questions"], counted["too_long"]) == (12, 1)
        assert "too long" in (place / "report.html").read_text()
    ours, theirs = (read_evaluations(place / "evaluations")[-1]["metrics"] for place in (alone, run))
    assert {name: theirs[name] for name in ours} == ours
