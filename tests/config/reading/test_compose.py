"""What extends, names and overrides mean, on recipe files written here."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from carerl.config.load import load
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
