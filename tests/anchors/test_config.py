"""The settings of anchors: what is refused, with the field, and what is said before a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.config.check.anchors import anchor_faults
from carerl.config.check.prompts import data_missing
from carerl.config.load import load
from carerl.config.schema import RunConfig
from carerl.controller.preparation import prepare
from carerl.errors import ConfigError
from carerl.tasks import TASKS, Task, TinyTask
from carerl.tasks.base import QUESTION
from carerl.tasks.text import TextTask
from carerl.tasks.text_anchors import places
from tests.qwen_vocabulary import qwen_directory_or_skip
from tests.tasks.shared_data import data_dir

TINY = ["recipe=anchor_grpo_tiny"]


@pytest.mark.parametrize(
    ("words", "field", "remedy"),
    [
        (["anchor.source="], "anchor.source", "random"),
        (["anchor.weight=-1"], "anchor.weight", "0"),
        (["anchor.per_step=1"], "anchor.per_step", "anchor.per_step=2"),
        (["anchor.max_new_tokens=64"], "anchor.max_new_tokens", "fewer"),
        (["anchor.divergence=ce", "anchor.sampler=policy"], "anchor.divergence", "fkl"),
        (["anchor.divergence=srkl", "anchor.alpha=1"], "anchor.alpha", "0.8"),
        (["anchor.alpha=.5"], "anchor.alpha", "anchor.divergence=srkl"),
        (["anchor.source=s3://bucket/own.jsonl"], "anchor.source", "fetch it first"),
        (["anchor.divergence=k3"], "anchor.divergence", "fkl"),
        (["anchor.name=none"], "anchor.source", "anchor.name=prompts"),
    ],
)
def test_settings_that_mean_nothing_are_refused(words: list[str], field: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([*TINY, *words])
    assert caught.value.field == field and remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("source", "said"),
    [("truthfulqa", "cannot be trained on"), ("commonsenseqa", "it is a test set"), ("gsm9k", "no data set")],
)
def test_a_data_set_that_is_no_source_is_refused_by_its_name_alone(source: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(["recipe=anchor_grpo_7b", f"anchor.source={source}"])
    assert caught.value.field == "anchor.source"


def test_a_plan_says_that_anchors_are_not_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "math_train.jsonl").touch(), (tmp_path / "math500.jsonl").touch()
    own = ["recipe=anchor_grpo_7b", f"task.data_dir={tmp_path}"]
    assert data_missing(load(own)) == ["commonsenseqa_train"]
    assert data_missing(load([*own, "anchor.source=random"])) == data_missing(load([*own, "anchor.weight=0"])) == []


def test_only_rl_has_anchors() -> None:
    for recipe in ("sft_decision_tiny", "caspo_tiny", "base_tiny"):
        with pytest.raises(ConfigError, match="only a run of RL") as caught:
            load([f"recipe={recipe}", "anchor.name=prompts"])
        assert caught.value.field == "anchor.name"


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (["anchor.source=nmes"], "no such source", "anchor.source=names"),
        (["anchor.source=facts"], "every one of task.entities=150", "another source"),
    ],
)
def test_a_source_that_the_task_does_not_have_is_refused_before_any_actor(
    words: list[str], said: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        prepare(load([*TINY, *words]), "")
    assert caught.value.field == "anchor.source" and remedy in caught.value.remedy


class AsksWhatItEvaluates(TinyTask):
    """A task of somebody else's, whose source holds one question of an evaluation."""

    def anchor_prompts(self, source: str, start: int, n: int) -> list[tuple[int, ...]]:
        own = super().anchor_prompts(source, start, n)
        return [*own[:-1], self.suites()[-1].examples[3].prompt_ids]


def test_a_prompt_of_an_evaluation_is_refused_wherever_it_comes_from() -> None:
    config = load(TINY)
    assert not list(anchor_faults(TinyTask(config.task, config.seed), config))
    (fault,) = anchor_faults(AsksWhatItEvaluates(config.task, config.seed), config)
    assert fault.field == "anchor.source" and "the evaluation unknowable asks" in fault.reason


def test_a_run_says_what_its_anchors_are() -> None:
    config = load([*TINY, "anchor.pool=32", "anchor.divergence=srkl", "anchor.weight=2"])
    assert config.anchor.lines(config) == [
        "anchors: 64 a step of 32 prompts from names, answered by the reference; srkl (alpha 0.8), weight 2"
    ]
    assert not load(["recipe=none_grpo_tiny"]).anchor.on and not load([*TINY, "anchor.weight=0"]).anchor.on


@pytest.fixture(scope="module")
def on_math(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Task]:
    """A recipe of MATH with its real rows and Qwen's own vocabulary."""
    from transformers import AutoTokenizer

    qwen = str(qwen_directory_or_skip(tmp_path_factory.mktemp("qwen")))
    data = data_dir("math_train.jsonl", "math500.jsonl")
    words = ["recipe=none_grpo_3b", f"model.path={qwen}", f"task.data_dir={data}", "steps=2", "task.decontaminate=drop"]
    config = load([*words, "anchor.name=prompts", "anchor.source=random"])
    task = TASKS[config.task.name].build(config.task, config.seed)
    task.attach(AutoTokenizer.from_pretrained(qwen))
    return config, task


def faults(config: RunConfig, task: Task, **changes: object) -> list[ConfigError]:
    return list(anchor_faults(task, replace(config, anchor=replace(config.anchor, **changes))))


@pytest.mark.parametrize(
    ("source", "said"),
    [("truthfulqa", "cannot be trained on"), ("selfaware", "cannot be trained on"), ("gsm9k", "no data set"),
     ("math500", "cannot be trained on")],
)  # fmt: skip
def test_what_must_not_be_trained_on_is_no_anchor(source: str, said: str, on_math: tuple[RunConfig, Task]) -> None:
    (fault,) = faults(*on_math, source=source)
    assert fault.field == "anchor.source" and said in fault.reason


def test_prompts_of_a_data_set_are_those_that_training_would_ask(
    on_math: tuple[RunConfig, Task], tmp_path: Path
) -> None:
    """A file that repeats an evaluation question and a rewarded one: both are left out, whatever is said of
    training."""
    config, task = on_math
    (suite,) = (suite for suite in task.suites() if suite.name == "math500")
    (trained,) = task.train_examples(0, 1)
    rows = [
        {"question": suite.examples[0].meta[QUESTION], "answer": "1"},
        {"question": trained.meta[QUESTION], "answer": "1"},
        {"question": "How many moons has the planet Mars?", "answer": "2"},
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not faults(config, task, source=str(file))
    for decontaminate in ("drop", "off"):
        own = replace(config, task=replace(config.task, decontaminate=decontaminate))
        with pytest.warns(UserWarning, match=r"2 of 3 prompts overlap one that is rewarded or evaluated"):
            asked = set(fresh(task, own).anchor_prompts(str(file), 0, 50))
        assert len(asked) == 1 and not asked & {trained.prompt_ids, suite.examples[0].prompt_ids}
    (fault,) = faults(config, task, source=str(file), max_new_tokens=config.rollout.max_model_len - 3)
    assert fault.field == "anchor.max_new_tokens" and "leaves" in fault.reason


def fresh(task: Task, config: RunConfig) -> Any:
    made = TASKS[config.task.name].build(config.task, config.seed)
    made.attach(task._tokenizer)  # type: ignore[attr-defined]
    return made


def test_random_prompts_are_as_long_as_training_prompts_and_hold_no_special_token(
    on_math: tuple[RunConfig, Task],
) -> None:
    task = on_math[1]
    assert isinstance(task, TextTask)
    prompts = task.anchor_prompts("random", 3, 40)
    assert [len(prompt) for prompt in prompts] == [len(one.prompt_ids) for one in task.train_examples(3, 40)]
    assert not {token for prompt in prompts for token in prompt}.intersection(task._attached().all_special_ids)
    assert task.anchor_prompts("random", 10, 5) == prompts[7:12] and len(set(prompts)) == 40
    (later,) = task.anchor_prompts("random", 3 + 512, 1)
    assert len(later) == len(prompts[0]) and later != prompts[0], "lengths come again, tokens do not"


def test_epochs_of_a_source_follow_each_other_each_in_an_order_of_its_own() -> None:
    whole = places(5, 7, 0, 21)
    assert [sorted(whole[k : k + 7]) for k in (0, 7, 14)] == [list(range(7))] * 3
    assert whole[:7] != whole[7:14] and places(5, 7, 4, 9) == whole[4:13] and places(6, 7, 0, 21) != whole
