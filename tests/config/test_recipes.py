"""Every shipped recipe resolves, plans, and says no more than it must."""

from __future__ import annotations

import pytest

from carerl.config import compose
from carerl.config.compose import leaves
from carerl.config.load import dump, load, read
from carerl.config.plan import plan
from carerl.config.render import render

TINY = ["none_grpo_tiny", "rkl_grpo_tiny", "care_grpo_tiny", "rkl_tuned_grpo_tiny", "fkl_tuned_grpo_tiny"]
LARGE = [f"{method}_grpo_{size}" for size in ("3b", "7b") for method in ("none", "rkl", "care")]
NAMES = compose.recipe_names()


def test_the_promised_recipes_are_there() -> None:
    assert {"base_tiny", *TINY, *LARGE} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_resolves_plans_and_comes_back_from_its_dump(name: str, tmp_path) -> None:
    config = load([f"recipe={name}"])
    text = render(plan(config))
    assert f"recipe: {name}" in text
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    assert read(path) == config


@pytest.mark.parametrize("name", NAMES)
def test_is_a_minimal_difference(name: str) -> None:
    own = {k: v for k, v in compose.read_file(name).items() if k not in ("extends", "description")}
    inherited = dict(leaves(compose.inherited(name)))
    repeated = [key for key, value in leaves(own) if key in inherited and inherited[key] == value]
    assert not repeated, f"{name} repeats what it inherits: {repeated}"


@pytest.mark.parametrize("name", NAMES)
def test_has_a_line_of_its_own(name: str) -> None:
    line = dict(compose.recipe_lines())[name]
    assert line and line == load([f"recipe={name}"]).description
    assert [other for other, text in compose.recipe_lines() if text == line] == [name]


@pytest.mark.parametrize("name", [*TINY, "base_tiny"])
def test_tiny_actors_ask_for_less_than_one_cpu_together(name: str) -> None:
    # four actors of one CPU each leave two pending for ever on a machine of two cores
    actors = plan(load([f"recipe={name}"])).actors
    assert sum(a.count * a.cpus_each for a in actors) <= 1.0
    assert sum(a.count * a.gpus_each for a in actors) == 0


def _everything_but_the_regularizer(name: str) -> dict[str, object]:
    from carerl.config.typed import plain

    tree = plain(load([f"recipe={name}"]))
    return {k: v for k, v in tree.items() if k not in ("regularizer", "recipe", "description")}


@pytest.mark.parametrize("family", [TINY, LARGE[:3], LARGE[3:]])
def test_variants_of_a_family_differ_in_the_regularizer_only(family: list[str]) -> None:
    first, *others = map(_everything_but_the_regularizer, family)
    assert all(other == first for other in others)


def test_tiny_rows_use_the_exact_divergence_and_the_papers_alpha() -> None:
    care = load(["recipe=care_grpo_tiny"]).regularizer
    assert (care.name, care.beta, care.alpha, care.estimator) == ("srkl", 4.0, 0.8, "full")
    rkl = load(["recipe=rkl_grpo_tiny"]).regularizer
    assert (rkl.name, rkl.beta, rkl.estimator) == ("rkl", 4.0, "full")
    assert load(["recipe=rkl_tuned_grpo_tiny"]).regularizer.beta == 0.3
    assert load(["recipe=fkl_tuned_grpo_tiny"]).regularizer.name == "fkl"
    assert load(["recipe=care_grpo_tiny", "regularizer.estimator=score"]).regularizer.estimator == "score"


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_large_recipes_have_the_papers_settings(size: str) -> None:
    config = load([f"recipe=care_grpo_{size}"])
    assert (config.regularizer.beta, config.regularizer.alpha) == (0.04, 0.8)
    assert config.task.name == "math"
    assert config.model.path == f"Qwen/Qwen2.5-{size.upper()}"
    assert load([f"recipe=rkl_grpo_{size}"]).regularizer.beta == 0.04
