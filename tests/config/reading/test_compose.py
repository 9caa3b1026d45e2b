"""What extends, names and overrides mean, on recipe files written here."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from carerl.config.load import dump, load
from carerl.config.reading import compose
from carerl.config.reading.scalars import native
from carerl.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes ./recipes/<name>.yaml of a fresh working directory."""
    monkeypatch.chdir(tmp_path)

    def write_one(name: str, text: str) -> None:
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    return write_one


def test_later_wins_and_own_keys_win_over_extends(write) -> None:
    write("part/a", "steps: 1\nseed: 1\nprompts_per_step: 1")
    write("part/b", "steps: 2\nseed: 2")
    write("r", "extends: [part/a, part/b]\nsteps: 3")
    assert native(compose.compose("r")) == {"steps": 3, "seed": 2, "prompts_per_step": 1}


def test_mappings_merge_and_lists_are_replaced(write) -> None:
    write("part/a", "learner: {ranks: 2, optimizer: {lr: 1.0, betas: [0.1, 0.2]}}")
    write("r", "extends: [part/a]\nlearner: {optimizer: {betas: [0.3, 0.4]}}")
    assert native(compose.compose("r")) == {"learner": {"ranks": 2, "optimizer": {"lr": 1.0, "betas": [0.3, 0.4]}}}


def test_description_is_not_inherited(write) -> None:
    write("part/a", "description: of the part\nsteps: 1")
    write("r", "extends: part/a")
    assert native(compose.compose("r")) == {"steps": 1}
    assert ("r", "") in compose.recipe_lines()


def test_a_circle_is_refused(write) -> None:
    write("part/a", "extends: [part/b]")
    write("part/b", "extends: [part/a]")
    write("r", "extends: [part/a]")
    with pytest.raises(ConfigError, match="r -> part/a -> part/b -> part/a"):
        load(["recipe=r"])


def test_the_same_part_by_two_ways_is_no_circle(write) -> None:
    write("part/a", "steps: 1")
    write("part/b", "extends: [part/a]")
    write("part/c", "extends: [part/a]")
    write("r", "extends: [part/b, part/c]")
    assert native(compose.compose("r")) == {"steps": 1}


def test_the_working_directory_wins_over_the_package(write) -> None:
    assert load(["recipe=care_grpo_tiny"]).steps == 200
    write("scale/tiny", "steps: 7\nprompts_per_step: 2\nmodel: {base_recipe: base_tiny}")
    assert load(["recipe=care_grpo_tiny"]).steps == 7  # the shipped recipe over the local fragment


def test_missing_part_names_the_nearest(write) -> None:
    write("r", "extends: [regularizer/srk]")
    with pytest.raises(ConfigError) as caught:
        load(["recipe=r"])
    assert caught.value.field == "r: extends" and "regularizer/srkl" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("steps: 1\nsteps: 2", "duplicate key"),
        ("steps: [1", "not valid YAML"),
        ("- a\n- b", "a recipe is a mapping"),
        ("task: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("extends: {a: b}", "extends is a list of names"),
    ],
)
def test_broken_files_are_refused(write, text: str, reason: str) -> None:
    write("r", text)
    with pytest.raises(ConfigError) as caught:
        load(["recipe=r"])
    assert reason in caught.value.reason
    assert any(name == "r" for name, _ in compose.recipe_lines())  # and the list can still be printed


def test_changing_the_name_drops_inherited_settings_that_the_new_choice_lacks() -> None:
    care = load(["recipe=care_grpo_tiny"]).regularizer
    rkl = load(["recipe=care_grpo_tiny", "regularizer.name=rkl"]).regularizer
    assert hasattr(care, "alpha") and not hasattr(rkl, "alpha")
    assert (rkl.beta, rkl.estimator) == (care.beta, care.estimator)


def test_changing_the_name_drops_inherited_settings_that_mean_something_else_there() -> None:
    """GSPO clips a ratio of sequences: its bounds, taken for tokens, would stop GRPO from learning, and the other way
    round would never clip."""
    gspo, grpo = (load([f"recipe=care_{name}_tiny"]).algorithm for name in ("gspo", "grpo"))
    back = load(["recipe=care_gspo_tiny", "algorithm.name=grpo", "algorithm.group_size=16"]).algorithm
    assert (back.clip_low, back.clip_high) == (grpo.clip_low, grpo.clip_high) != (gspo.clip_low, gspo.clip_high)
    assert (back.minibatches, back.group_size) == (gspo.minibatches, 16), "what is asked for, and what means the same"
    asked = load(["recipe=care_gspo_tiny", "algorithm.name=grpo", "algorithm.clip_low=0.03"]).algorithm
    assert (asked.clip_low, asked.clip_high) == (0.03, 0.2)


def test_a_setting_asked_for_is_not_dropped_but_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["recipe=care_grpo_tiny", "regularizer.name=rkl", "regularizer.alpha=0.5"])
    assert caught.value.field == "regularizer.alpha"
    assert "alpha is not a setting of regularizer rkl" in caught.value.reason


def test_none_inherits_no_strength() -> None:
    chosen = load(["recipe=care_grpo_tiny", "regularizer.name=none"]).regularizer
    assert chosen.name == "none" and getattr(chosen, "beta", 0.0) == 0.0


def test_a_model_path_replaces_an_inherited_base_recipe(tmp_path: Path) -> None:
    config = load(["recipe=care_grpo_tiny", f"model.path={tmp_path}", "dry_run=true"])
    assert (config.model.path, config.model.base_recipe) == (str(tmp_path), "")


def test_plugins_add_lines_before_the_tables_are_read(write, tmp_path: Path, monkeypatch) -> None:
    from carerl.config.tables import CHOICES

    (tmp_path / "my_rewards_plugin.py").write_text(
        textwrap.dedent("""
        from dataclasses import dataclass
        from carerl.rewards import REWARDS, RewardConfig

        @dataclass
        class Config(RewardConfig):
            name: str = "halved"
            half: float = 0.5

        REWARDS["halved"] = type(REWARDS["correct"])(Config, lambda c: lambda s: c.half, "half a point")
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    write("r", "extends: [care_grpo_tiny]\nplugins: [my_rewards_plugin]\nreward: {name: halved, half: 0.25}")
    try:
        assert load(["recipe=r"]).reward.half == 0.25
    finally:
        dict.pop(CHOICES["reward"], "halved", None)  # type: ignore[arg-type]
        sys.modules.pop("my_rewards_plugin", None)


def test_interpolation_repeats_another_value() -> None:
    assert load(["recipe=care_grpo_tiny", "evaluation.seed=${seed}", "seed=7"]).evaluation.seed == 7


def test_a_scale_takes_the_place_of_the_recipes_own(write) -> None:
    """At any depth, once for several files, and without a trace of what it replaces."""
    write("scale/large", "steps: 500\nprompts_per_step: 64\nseed: 9\n")
    write("scale/longer", "extends: [scale/large]\nsteps: 900\n")
    write("scale/laptop", "extends: [scale/small]\nsteps: 3\n")
    write("scale/small", "steps: 5\nprompts_per_step: 8\n")
    write("first", "extends: [scale/large, scale/longer]\nkind: rl\n")
    write("mine", "extends: [first]\nrunner: {a: 1}\n")
    assert compose.compose("mine")["steps"] == "900"
    assert compose.compose("mine", scale="laptop") == {
        "steps": "3", "prompts_per_step": "8", "kind": "rl", "runner": {"a": "1"},
    }  # fmt: skip


def test_a_scale_is_asked_for_by_name_and_stays_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(["recipe=care_grpo_3b", "scale=16_gpus", "steps=7"])
    assert (config.scale, config.rollout.actors, config.learner.ranks, config.steps) == ("16_gpus", 6, 8, 7)
    assert load(["recipe=care_grpo_3b"]).learner.ranks == 4
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load([f"resume={tmp_path}"]).scale == "16_gpus"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("extends: [care_grpo_3b]\nscale: 16_gpus\n")
    for words, reason, remedy in (
        (["recipe=care_grpo_3b", "scale=16_gpu"], "no file of this name", "scale=16_gpus"),
        (["recipe=care_grpo_3b", "scale=scale/16_gpus"], "no file of this name", "scale=16_gpus"),
        (["recipe=base_bytes", "scale=16_gpus"], "extends no file of scale/", "leave scale= out"),
        (["recipe=mine"], "for the command line", "extends: [scale/NAME]"),
        (["recipe=./config.yaml"], "the file is that of a run", "the recipe's own name and scale=16_gpus"),
        ([f"resume={tmp_path}", "scale=8_gpus"], "was started with 16_gpus, and with another", "leave scale out"),
        (["recipe=care_grpo_tiny", "scale=1_gpu_24gb"], "recipe care_grpo_tiny is for the tiny", "one of tiny, tiny_"),
        (["recipe=care_grpo_3b", "scale=tiny"], "by its name it is for the tiny world", "one of 16_gpus, "),
        (["recipe=care_grpo_3b", "scale=8_gpus_finetune"], "it is for supervised finetuning", "1_gpu_24gb"),
        (["recipe=sft_decision_4b", "scale=1_gpu_24gb"], "is for supervised finetuning", "one of 8_gpus_finetune, or"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(words)
        assert caught.value.field == "scale" and reason in caught.value.reason and remedy in caught.value.remedy


def test_a_run_without_a_scale_says_so_when_it_is_resumed_with_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump(load(["recipe=care_grpo_3b"])))
    with pytest.raises(ConfigError) as caught:
        load([f"resume={tmp_path}", "scale=16_gpus"])
    assert f"the run in {tmp_path} was started with none, and" in caught.value.reason
    (tmp_path / "config.yaml").write_text(dump(load(["recipe=care_grpo_3b", "scale=16_gpus"])))
    with pytest.raises(ConfigError) as caught:
        load([f"resume={tmp_path}", "scale="])
    assert str(caught.value).startswith("scale = none is refused")


@pytest.mark.parametrize("recipe", ["care_grpo_tiny", "grpo_decision_tiny", "care_dapo_7b", "sft_decision_4b"])
def test_every_scale_that_is_offered_for_a_recipe_is_one_that_it_takes(recipe: str) -> None:
    """But for what the recipe needs of its own scale: the noisy golds of the decision recipes."""
    taken, refused = [], []
    for scale in compose.scale_names():
        try:
            taken.append(load([f"recipe={recipe}", f"scale={scale}", "dry_run=true"]).scale)
        except ConfigError as error:
            refused.append((scale, error.field, error.remedy))
    assert taken
    for scale, field, remedy in refused:
        assert (field, scale) in (("scale", scale), ("decision.reward", "tiny"))
        if field == "scale":
            assert set(remedy.removeprefix("choose one of ").split(", or ")[0].split(", ")) >= set(taken)


def test_the_noisy_golds_are_a_whole_scale() -> None:
    """Named alone, it still has the tiny engine and learner: what stood before it would be replaced as well."""
    config = load(["recipe=care_grpo_tiny", "scale=tiny_decisions"])
    assert (config.steps, config.rollout.max_model_len, config.learner.optimizer.lr) == (400, 64, 1e-3)
    assert config.task.gold_noise == 0.05  # type: ignore[attr-defined]
