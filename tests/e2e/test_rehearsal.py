"""Rehearsals as a person calls them: MATH's real rows, Qwen2's own vocabulary, Ray, vLLM. One an algorithm.

Not covered: every other recipe (``make rehearse``), the faults that one notices (``controller/test_rehearsal.py``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.heads import ray_head
from tests.qwen_vocabulary import qwen_directory_or_skip
from tests.tasks.shared_data import data_dir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TOO_LONG = 7  # of MATH's training prompts, in Qwen2's vocabulary and the base model's chat template


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Where tokenizer and rows are. Without ``config.json`` each recipe's own shape is taken."""
    model = qwen_directory_or_skip(tmp_path_factory.mktemp("qwen"))
    (model / "config.json").unlink()
    return [f"model.path={model}", f"task.data_dir={data_dir('math_train.jsonl', 'math500.jsonl')}"]


def the_record(folder: Path, recipe: str) -> dict[str, object]:
    (place,) = folder.glob(f"rehearse_{recipe}-s100-*")
    found = json.loads((place / "rehearsal.json").read_text())
    assert (place / "whole" / "report.html").is_file() and list((place / "whole" / "wandb").iterdir())
    assert not list(place.rglob("*.safetensors")), "drawn weights are of no use to anybody"
    assert isinstance(found, dict)
    return found


@pytest.mark.long
@pytest.mark.parametrize(("algorithm", "scale"), [("grpo", "7b"), ("gspo", "3b")])  # DAPO below, as a job
def test_a_recipe_is_rehearsed_from_its_data_to_its_report(
    algorithm: str, scale: str, words: list[str], tmp_path: Path
) -> None:
    recipe = f"care_{algorithm}_{scale}"
    place = "learner" if algorithm == "gspo" else "actors"
    own = [f"recipe={recipe}", f"reference.place={place}", "rehearse=true"]
    command = [sys.executable, "-m", "carerl.run", *own, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found = the_record(tmp_path / "runs", recipe)
    assert found["passed"] and found["faults"] == [] and found["dropped"] == TOO_LONG
    assert isinstance(found["gib"], float) and 1 < found["gib"] < 6.5  # 6.2 were measured at 7b
    for part in ("passed", "equal those of the run that was never stopped", "coin flips", "not rehearsed", "GPUs"):
        assert part in done.stdout
    run = next((tmp_path / "runs").glob("rehearse_*")) / "whole"
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["reference"]["place"] == place
    assert settings["model"]["shape"]["vocab_size"] == {"3b": 151936, "7b": 152064}[scale]
    assert settings["model"]["dtype"] == settings["learner"]["compute_dtype"] == "bfloat16"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3]
    assert [row["step"] for row in rows if "eval/accuracy" in row] == [0, 2, 3]


def test_the_jobs_command_is_rehearsed_by_two_more_words(words: list[str], tmp_path: Path) -> None:
    """README's command for a cluster, on a head of Ray's own: the run's directory stays untouched."""
    first = tmp_path / "shared" / "first"
    command = [sys.executable, "-m", "carerl.job", "recipe=care_dapo_7b", f"run_dir={first}", "resume=auto"]
    with ray_head(tmp_path) as head:
        own = ["rehearse=true", f"address={head.jobs}", f"python={sys.executable}", "patience=120", *words]
        done = subprocess.run([*command, *own], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and "SUCCEEDED" in done.stdout, done.stdout[-4000:] + done.stderr[-4000:]
    assert not first.exists()
    assert the_record(first.parent, "care_dapo_7b")["passed"]
