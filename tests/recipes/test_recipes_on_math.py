"""The recipes for 3B and 7B models on MATH's real rows in Qwen2's own vocabulary: they start, and what is dropped is
counted. Skipped where rows or vocabulary cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from carerl import run
from carerl.config.check.at_hand import check_model_dir, check_task
from carerl.config.check.prompts import prompt_record
from carerl.config.load import load
from carerl.config.plan.plan import plan
from carerl.config.plan.render import render
from carerl.config.schema import RunConfig
from carerl.tasks import TASKS, TextTask
from carerl.tasks.benchmarks.math import BOXED
from tests.qwen_vocabulary import SYSTEM, qwen_directory_or_skip
from tests.tasks.shared_data import data_dir

RECIPES = [
    f"{penalty}_{algorithm}_{size}"
    for penalty in ("none", "rkl", "care")
    for algorithm in ("grpo", "dapo", "gspo")
    for size in ("3b", "7b")
]
ROOM = 3072 - 2048  # tokens that the recipes' lengths leave for a prompt


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(qwen_directory_or_skip(tmp_path_factory.mktemp("qwen")))


@pytest.fixture(scope="module")
def tokenizer(model_dir: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir)


def settings(recipe: str, model_dir: str, *words: str) -> RunConfig:
    """Of a recipe on the rows beside the repository; its shape stays the recipe's own."""
    folder = data_dir("math_train.jsonl", "math500.jsonl")
    return load([f"recipe={recipe}", f"model.path={model_dir}", f"task.data_dir={folder}", *words])


@pytest.fixture(scope="module")
def task(model_dir: str, tokenizer: Any) -> TextTask:
    config = settings(RECIPES[0], model_dir)
    made = TASKS["math"].build(config.task, config.seed)
    assert isinstance(made, TextTask)
    made.attach(tokenizer)
    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_passes_the_checks_before_the_first_actor(recipe: str, model_dir: str, task: TextTask) -> None:
    config = settings(recipe, model_dir)
    assert config.task == task.config and config.task.max_prompt_tokens == ROOM
    check_task(task, config)
    counted = prompt_record(config, task)
    assert counted["training"]["too_long"] == 7 and counted["training"]["longest"]["id"] == "math-train-02616"
    assert counted["evaluation"]["math500"] == {**counted["evaluation"]["math500"], "questions": 500, "too_long": 0}


def test_what_is_dropped_is_what_is_longer_than_the_lengths_leave(
    model_dir: str, task: TextTask, tokenizer: Any
) -> None:
    """Counted here on the rows themselves, each prompt spelt out and encoded alone."""
    folder = Path(data_dir("math_train.jsonl"))
    expected: dict[str, int] = {}
    for line in (folder / "math_train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if len(row["question"]) < 1000:  # letters: a token has at least one
            continue
        asked = BOXED.replace("{question}", row["question"])
        text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        tokens = len(tokenizer.encode(text))
        if tokens > ROOM:
            expected[row["id"]] = tokens
    assert dict(task.training_lengths().too_long) == expected and len(expected) == 7
    assert task.training_lengths().questions == 7500 - len(task.overlapping)
    epoch = task.train_examples(0, task.training_lengths().questions - 7)
    trained = {example.id.rpartition("/")[2] for example in epoch}
    assert len(trained) == len(epoch) and not trained & set(expected)
    assert max(len(example.prompt_ids) for example in epoch) <= ROOM


def test_a_base_model_ends_at_the_chat_templates_turn_too(task: TextTask, model_dir: str) -> None:
    check_model_dir(model_dir, settings(RECIPES[0], model_dir))
    assert task.stop_ids == (151643, 151645)


def test_the_plan_counts_what_is_at_hand_and_says_what_is_not(model_dir: str, tmp_path: Path) -> None:
    here = render(plan(settings("care_dapo_7b", model_dir, "dry_run=true")))
    assert "7 of 7,387 have more than 1,024 tokens (task.max_prompt_tokens) and are dropped" in here
    assert "math-train-02616" in here and "  max_prompt_tokens: 1024" in here
    words = ["recipe=care_dapo_7b", "dry_run=true"]
    assert plan(load(["recipe=care_grpo_tiny", "dry_run=true"])).prompts == ()
    for other, missing in (
        ([], "math_train"),
        ([f"task.data_dir={tmp_path}"], "math_train"),
        ([f"task.data_dir={data_dir('math_train.jsonl')}", "model.path=no-such-owner/no-such-model"], "no-such-model"),
        ([f"task.data_dir={data_dir('math_train.jsonl')}", f"model.path={tmp_path / 'gone'}"], "gone"),
    ):
        lines = plan(load([*words, *other])).prompts
        assert len(lines) == 1 and "not counted" in lines[0] and missing in lines[0]


def test_a_plan_takes_a_model_of_the_hub_from_its_cache_on_this_machine(
    model_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "hub" / "models--Qwen--Qwen2.5-7B"
    shutil.copytree(model_dir, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    words = ["recipe=care_dapo_7b", "dry_run=true", f"task.data_dir={data_dir('math_train.jsonl', 'math500.jsonl')}"]
    assert run.main(words) == 0
    assert "7 of 7,387 have more than 1,024 tokens" in capsys.readouterr().out
