"""Settings of rounds of preferences that mean nothing together, and a second model that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carerl.config.check.at_hand import check_task
from carerl.config.check.preferences import check_judge
from carerl.config.judging import judge_run, judges
from carerl.config.load import load
from carerl.config.plan.plan import plan
from carerl.config.plan.rounds import round_lines
from carerl.config.roles import actor_groups
from carerl.controller.schedule import learning_rate
from carerl.errors import ConfigError
from carerl.tasks import TASKS
from carerl.tasks.byte_tokenizer import make_byte_tokenizer

TEXT = ["recipe=caspo_7b"]


@pytest.mark.parametrize(
    ("words", "field", "reason", "remedy"),
    [
        (["recipe=care_grpo_tiny", "preference.beta=.2"], "preference.beta", "kind rl learns from no pairs", "caspo"),
        (
            ["recipe=outcome_dpo_tiny", "preference.label=monte_carlo"],
            "preference.label",
            "whole responses are compared",
            "preference.unit=step",
        ),
        (["recipe=caspo_tiny", "preference.label=judge"], "preference.label", "no words", "exact or monte_carlo"),
        (["recipe=outcome_dpo_tiny", "preference.second=always"], "preference.second", "whole responses", "unit=step"),
        (["recipe=outcome_dpo_tiny", "preference.completions=3"], "preference.completions", "whole", "unit=step"),
        (["recipe=outcome_dpo_tiny", "preference.wrong_to=.1"], "preference.wrong_to", "whole", "unit=step"),
        (["recipe=caspo_tiny", "preference.delimiter="], "preference.delimiter", "no step would ever end", "delimiter"),
        ([*TEXT, "preference.label=monte_carlo"], "judge.path", "no second model judges", "write judge.path="),
        ([*TEXT, "judge.max_model_len=4097"], "judge.max_model_len", "context is 4096", "judge.max_model_len=4096"),
        ([*TEXT, "judge.path="], "judge.path", "there is none", "chat template"),
        ([*TEXT, "judge.path=./no_such_model"], "judge.path", "no such model directory", "hub id"),
        ([*TEXT, "judge.max_new_tokens=4096"], "judge.max_new_tokens", "judge.max_model_len=4096", "lower it"),
        ([*TEXT, "judge.tensor_parallel=2"], "judge.tensor_parallel", "an actor has 1 GPUs", "judge.gpus_per_actor=2"),
        ([*TEXT, "judge.gpus_per_actor=16"], "judge.gpus_per_actor", "a node has 8 GPUs", "judge.gpus_per_actor=8"),
        (["recipe=caspo_tiny", "decision.reward=argmax"], "decision.reward", "own responses", "leave decision.reward"),
        (
            [*TEXT, "learner.schedule.warmup_steps=3"],
            "learner.schedule.warmup_steps",
            "counted in rounds",
            "warmup_steps=0",
        ),
        (["recipe=caspo_tiny", "learner.ranks=300"], "learner.ranks", "128 rows", "learner.ranks=128"),
    ],
)
def test_these_are_refused_with_reason_and_remedy(words: list[str], field: str, reason: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(words)
    assert caught.value.field == field and reason in caught.value.reason and remedy in caught.value.remedy


def test_the_recipes_of_rounds_learn_at_the_full_rate_from_the_first_round_on() -> None:
    for name in ("caspo_7b", "caspo_tiny", "step_dpo_tiny", "outcome_dpo_tiny"):
        config = load([f"recipe={name}"])
        assert learning_rate(1 / 16, config.steps, config.learner) >= 0.9 * config.learner.optimizer.lr


def test_a_task_that_does_not_know_its_steps_cannot_label_them() -> None:
    config = load([*TEXT, "preference.label=exact", "judge.path="])
    task = TASKS["math"].build(config.task, config.seed)
    with pytest.raises(ConfigError, match="does not know which steps of a response are right") as caught:
        check_task(task, config)
    assert caught.value.field == "preference.label" and "monte_carlo" in caught.value.remedy
    tiny = load(["recipe=caspo_tiny"])
    check_task(TASKS["tiny"].build(tiny.task, tiny.seed), tiny)


def test_the_second_model_is_started_only_where_it_judges() -> None:
    roles = {
        name: {group.role for group in actor_groups(load([*TEXT, *words]))}
        for name, words in {
            "judge": [],
            "completions": ["preference.label=monte_carlo", "judge.path="],
            "whole": ["judge.path=", "preference.unit=response", "preference.label=exact", "preference.confidence=off"],
        }.items()
    }
    assert {name for name, found in roles.items() if "judge" in found} == {"judge"}


def test_the_plan_counts_the_second_model_as_engines_of_its_own() -> None:
    config = load([*TEXT, "dry_run=true"])
    found = plan(config)
    assert judges(config) and judge_run(config).model.path == "Qwen/Qwen2.5-Math-7B-Instruct"
    assert sum(group.count * group.gpus_each for group in found.actors) == 16 and len(found.nodes) == 2
    weights = 2 * found.parameters.total / 2**30  # the same shape, in bfloat16
    assert found.memory["judge"]["weights"] == pytest.approx(weights, rel=1e-6)
    smaller = plan(load([*TEXT, "dry_run=true", "judge.shape.num_layers=14"]))
    assert smaller.memory["judge"]["weights"] < 0.6 * weights
    assert smaller.memory["rollout"] == found.memory["rollout"]
    assert found.compute is not None and smaller.compute is not None
    assert smaller.compute.stages["judge"] < found.compute.stages["judge"]
    words = " ".join(round_lines(load([*TEXT, "dry_run=true", "preference.label=monte_carlo", "judge.path="])))
    assert "GiB of the round's responses" in words and "GiB of completions at a time" in words
    completed = plan(load([*TEXT, "dry_run=true", "preference.label=monte_carlo", "judge.path="])).compute
    assert completed is not None and completed.stages["judge"] > 4 * found.compute.stages["judge"]


def test_a_second_model_that_does_not_fit_its_card_is_told_by_its_own_settings() -> None:
    words = [*TEXT, "dry_run=true", "judge.gpu_memory_utilization=.1"]
    (overflow,) = [found for found in plan(load(words)).overflows if found.role == "judge"]
    assert not overflow.fits and "judge.gpu_memory_utilization=0.1" in overflow.remedy
    assert "rollout." not in overflow.remedy


def test_a_second_model_needs_a_chat_template_and_the_context(tmp_path: Path) -> None:
    """Also where it is its files that tell, and no settings."""
    make_byte_tokenizer(chat=False, context=512).save_pretrained(tmp_path)
    shape = {"model_type": "llama", "vocab_size": 300, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512}
    config = load([*TEXT, "judge.max_model_len=1024"])
    config.judge.path = str(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(shape | heads))
    with pytest.raises(ConfigError) as caught:
        check_judge(config, str(tmp_path))
    found = {error.field: error.reason for error in (caught.value, *caught.value.others)}
    assert set(found) == {"judge.path", "judge.max_model_len"} and "no chat template" in found["judge.path"]
    assert "512 tokens" in found["judge.max_model_len"]
    make_byte_tokenizer(context=512).save_pretrained(tmp_path)
    config.judge.max_model_len = 512
    check_judge(config, str(tmp_path))


def test_a_directory_is_a_second_model(tmp_path: Path) -> None:
    config = load([*TEXT, f"judge.path={tmp_path}"])
    assert judge_run(config).rollout.max_model_len == 4096 and judge_run(config).rollout.actors == 2
