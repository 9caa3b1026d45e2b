"""Who has how much of the context, as a setting: settled when a run starts, the same when it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.config.evaluate import evaluation_config
from carerl.config.lengths import asked, new_tokens
from carerl.config.load import dump, load, read
from carerl.config.schema import RunConfig
from carerl.config.sweep import check_stored
from carerl.errors import ConfigError
from carerl.tasks.base import Suite
from carerl.types import Example
from tests.controller.test_going_on import model

TEXT = ["recipe=care_grpo_3b", "dry_run=true"]


def room(config: RunConfig) -> int:
    return int(config.task.max_prompt_tokens)


def test_the_lengths_leave_what_is_left() -> None:
    assert room(load(TEXT)) == 3072 - 2048
    assert room(load([*TEXT, "rollout.max_model_len=4096"])) == 2048
    assert room(load([*TEXT, "task.max_prompt_tokens=600"])) == 600
    assert room(load(["recipe=care_grpo_tiny"])) == 0, "a task with prompts of known lengths drops none"


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["task.max_prompt_tokens=1025"], "rollout.max_model_len"),
        (["task.max_prompt_tokens=-1"], "task.max_prompt_tokens"),
        (["rollout.max_new_tokens=3072"], "rollout.max_new_tokens"),
        (["rollout.end_ids=[5]"], "rollout.end_ids"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([*TEXT, *words])
    assert caught.value.field == field and caught.value.remedy


def stored(folder: Path, *words: str) -> tuple[RunConfig, Path]:
    config = load([*TEXT, *words])
    (folder / "config.yaml").write_text(dump(config))
    return config, folder / "config.yaml"


def test_a_resumed_run_keeps_its_data_whatever_becomes_of_the_context(tmp_path: Path) -> None:
    stored(tmp_path)
    assert room(load([f"resume={tmp_path}"])) == 1024
    assert room(load([f"resume={tmp_path}", "rollout.max_model_len=4096"])) == 1024
    for words in (["task.max_prompt_tokens=1023"], ["rollout.max_model_len=2900"]):
        with pytest.raises(ConfigError):
            load([f"resume={tmp_path}", *words])


def test_a_run_from_before_the_setting_goes_on_and_is_the_cell_that_a_sweep_asks_for(tmp_path: Path) -> None:
    config, file = stored(tmp_path)
    kept = [line for line in file.read_text().splitlines() if "max_prompt_tokens" not in line and "end_ids" not in line]
    file.write_text("\n".join(kept) + "\n")
    assert room(read(file)) == 1024 and room(load([f"resume={tmp_path}"])) == 1024
    check_stored(tmp_path, config, "complete")


def test_what_a_run_found_is_nothing_that_a_sweep_asks_for(tmp_path: Path) -> None:
    config, _ = stored(tmp_path)
    found = load(TEXT)
    found.rollout.end_ids = [151643, 151645]
    (tmp_path / "config.yaml").write_text(dump(found))
    check_stored(tmp_path, config, "complete")
    assert load([f"resume={tmp_path}"]).rollout.end_ids == [151643, 151645]
    with pytest.raises(ConfigError, match="rollout"):
        load([f"resume={tmp_path}", "rollout.end_ids=[151643]"])


def test_an_evaluation_has_no_use_for_the_length_of_training_prompts(tmp_path: Path) -> None:
    place = model(tmp_path / "model")
    own = load(["recipe=care_grpo_tiny"])
    (place / "carerl_base.yaml").write_text(dump(own))
    words = [f"model={place}", "benchmarks=[gsm8k]", "engine=hf"]
    assert room(evaluation_config(words)) == 0
    with pytest.raises(ConfigError) as caught:
        evaluation_config([*words, "task.max_prompt_tokens=20"])
    assert caught.value.field == "task.max_prompt_tokens" and "trains on none" in caught.value.reason


def test_questions_are_asked_where_prompt_and_answer_fit() -> None:
    config = load(["recipe=care_grpo_tiny", "rollout.max_model_len=20", "rollout.max_new_tokens=8"])
    examples = tuple(Example(str(n), (1,) * n, "", {}) for n in (3, 13, 12, 11))
    found = asked(config, Suite("s", examples))
    assert [example.id for example in found.examples] == ["3", "12", "11"] and found.too_long == 1
    longer = Suite("s", examples, max_new_tokens=9)  # what a full answer takes
    assert new_tokens(config, longer) == 9
    assert [example.id for example in asked(config, longer).examples] == ["3", "11"]
    assert asked(config, asked(config, longer)).too_long == 2


@pytest.mark.parametrize(
    ("words", "evaluates"),
    [
        ([], True),
        (["evaluation.at_start=false", "evaluation.at_end=false"], True),
        (["evaluation.at_start=false", "evaluation.at_end=false", "evaluation.every=0"], False),
        (["evaluation.at_start=false", "evaluation.at_end=false", "evaluation.every=20", "steps=20"], False),
        (["evaluation.at_start=false", "evaluation.at_end=false", "evaluation.every=19", "steps=20"], True),
        (["evaluation.at_start=false", "evaluation.every=0"], True),
        (["evaluation.at_end=false", "evaluation.every=0"], True),
    ],
)
def test_only_a_run_that_evaluates_needs_benchmarks(words: list[str], evaluates: bool) -> None:
    assert load([*TEXT, *words]).evaluates is evaluates
    asked_for_nothing = [*TEXT, *words, "task.benchmarks=[]"]
    if not evaluates:
        assert load(asked_for_nothing).task.benchmarks == []
        return
    with pytest.raises(ConfigError) as caught:
        load(asked_for_nothing)
    assert caught.value.field == "task.benchmarks"
    for word in caught.value.remedy.partition("evaluate nothing, ")[2].split():
        asked_for_nothing.append(word)
    load(asked_for_nothing)
