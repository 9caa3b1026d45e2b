"""The lines of "What is read" (carerl/README.md) that no other test holds: what a file that a stranger wrote can do,
and what it cannot."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from carerl.backends.models import load_model, load_tokenizer, make_base_bytes
from carerl.config.load import load
from carerl.config.schema import ShapeConfig
from carerl.report.compare.whole import compare
from carerl.runs.directory import RunDirectory
from carerl.runs.jsonl import JsonlTracker
from carerl.runs.sweep_file import Cell, read_cells, write_cells
from carerl.tasks.byte_tokenizer import VOCAB_SIZE
from carerl.tracking.wandb_server import server_of_a_strangers_file
from carerl.types import RunError
from tests.runs.synthetic_runs import config, make_run

ROOT = Path(__file__).resolve().parents[1]


class Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.ran}",)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_base_bytes(tmp_path / "model", 1, ShapeConfig(vocab_size=VOCAB_SIZE, context_length=512))
    return tmp_path / "model"


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_recipe_of_the_working_directory_can_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user's, by where it lies: carerl/README.md says so, and this is why."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "care_grpo_tiny.yaml").write_text("plugins: [from_the_folder]\n")
    (tmp_path / "from_the_folder.py").write_text("raise SystemError('it ran')")
    with pytest.raises(Exception, match="it ran"):
        load(["recipe=care_grpo_tiny"])


def test_a_models_own_code_is_not_run(model: Path, ran: Path) -> None:
    (model / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n")
    edit(model / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"})
    edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.C", "evil.C"]})
    for read in (lambda: load_tokenizer(str(model)), lambda: load_model(str(model), "float32")):
        try:
            read()
        except Exception as error:
            assert "trust_remote_code" in str(error)
    assert not ran.exists()


def test_pickled_weights_are_not_read(model: Path, ran: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"x": Runs(ran)}, model / "pytorch_model.bin")
    (model / "training_args.bin").write_bytes(pickle.dumps(Runs(ran)))
    with pytest.raises(RunError, match="pickled"):
        load_model(str(model), "float32")
    assert not ran.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% set x = messages.append(1) %}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_chat_template_reaches_nothing(model: Path, template: str) -> None:
    tokenizer = load_tokenizer(str(model))
    tokenizer.chat_template = template
    with pytest.raises(Exception, match=r"(?i)unsafe|undefined|immutable|loader|sandbox"):
        tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)


def test_a_dotenv_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RAY_ADDRESS=ray://evil.example:10001\nHF_ENDPOINT=http://evil.example\n")
    code = (
        "import carerl.run, carerl.controller.launch, ray, transformers, os; "
        "assert 'RAY_ADDRESS' not in os.environ and 'HF_ENDPOINT' not in os.environ"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "HF_ENDPOINT")}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_a_sweeps_list_names_cells_beside_it_only(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "error.txt").write_text("hunter2")
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    for name in ("../secret", str(tmp_path / "secret"), ".."):
        (sweep / "sweep.json").write_text(json.dumps({"cells": {name: {"row": "recipe=x", "settings": {}}}}))
        with pytest.raises(ValueError, match="does not list a sweep's cells"):
            read_cells(sweep)


def test_the_cells_of_a_sweeps_list_import_nothing_in_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their settings are looked at, to say which rows of a paper have not run yet."""
    (tmp_path / "evil_of_a_sweep.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    sweep = tmp_path / "sweep"
    words = "recipe=care_grpo_3b plugins=[evil_of_a_sweep]"
    cells = [Cell(sweep / "a", words, {}), Cell(sweep / "b", f"recipe={tmp_path}/recipe.yaml", {})]
    write_cells(sweep, cells, "care_rft")
    (tmp_path / "recipe.yaml").write_text("extends: care_grpo_3b\nplugins: [evil_of_a_sweep]\n")
    make_run(sweep, config("none_grpo_3b", 1), {"eval/gsm8k/maj": 0.5}, {})
    (view, *_) = compare([str(sweep)], tmp_path / "out").views
    assert [line[0] for line in view.tables[0].lines if line[1] == "paper"] == ["Base", "GRPO", "GRPO + CARE"]
    assert "evil_of_a_sweep" not in sys.modules


def test_a_run_directory_with_links_is_no_way_to_other_files(tmp_path: Path) -> None:
    """Somebody who wrote it would have this user's files overwritten, or added to."""
    mine = tmp_path / "mine"
    mine.write_text("kept")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    for name in ("summary.json", "config.yaml", f".summary.json.{os.getpid()}.tmp", "metrics.jsonl"):
        (run.path / name).symlink_to(mine)
    run.write_summary({"status": "failed"})
    run.write_config("a: 1")
    with pytest.raises(RunError, match="is a link"):
        JsonlTracker(run.metrics, resume_step=5)
    assert mine.read_text() == "kept" and not run.summary.is_symlink() and run.read_config() == {"a": 1}


def test_a_small_file_does_not_stand_for_a_huge_one(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(yaml.YAMLError, match="aliases"):
        RunDirectory(tmp_path).read_config()
    shared = {"betas": [0.9, 0.95]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"a": shared, "b": shared, "c": shared}))
    assert RunDirectory(tmp_path).read_config() == {"a": shared, "b": shared, "c": shared}


def test_wandbs_file_of_the_working_directory_names_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    assert server_of_a_strangers_file() == ""
    (tmp_path / "wandb").mkdir()
    settings = tmp_path / "wandb" / "settings"
    settings.write_text("[default]\nproject = p\n")
    assert server_of_a_strangers_file() == ""
    settings.write_text("[default]\nbase_url = http://evil.example\n")
    assert server_of_a_strangers_file() == "http://evil.example"
    settings.write_bytes(b"base_url = \xff")
    assert "cannot be read" in server_of_a_strangers_file()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert server_of_a_strangers_file() == ""
