"""Every shipped recipe resolves, plans, and says no more than it must."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from carerl.algorithms import ALGORITHMS
from carerl.config.load import dump, load, read
from carerl.config.plan.cards import is_named
from carerl.config.plan.plan import plan
from carerl.config.plan.render import render
from carerl.config.reading import compose
from carerl.config.reading.compose import leaves
from carerl.config.reading.scalars import native
from carerl.config.reading.typed import plain
from carerl.config.roles import shares_gpu
from carerl.errors import ConfigError
from carerl.regularizers import REGULARIZERS

README = (Path(__file__).parents[2] / "recipes" / "README.md").read_text(encoding="utf-8")
METHODS = ("none", "rkl", "care")
FAMILIES = {
    (algorithm, size): [f"{method}_{algorithm}_{size}" for method in METHODS]
    for algorithm in ("grpo", "dapo", "gspo")
    for size in ("tiny", "3b", "7b", *(("0_5b", "1_5b", "14b") if algorithm != "gspo" else ()))
}
DECISIONS = {
    "1_7b": ["calibration_aware_1_7b", "sft_decision_1_7b"],
    "4b": ["calibration_aware_4b", "sft_decision_4b"],
    "8b": ["calibration_aware_8b", "sft_decision_8b"],
}
FAMILIES["grpo", "tiny"] += ["rkl_tuned_grpo_tiny", "fkl_tuned_grpo_tiny"]
TINY = [name for (_, size), names in FAMILIES.items() if size == "tiny" for name in names]
NAMES = compose.recipe_names()


def test_the_promised_recipes_are_there() -> None:
    decisions = {
        "grpo_decision_tiny",
        "calibration_aware_tiny",
        "sft_decision_tiny",
        *(name for names in DECISIONS.values() for name in names),
    }
    rounds = {"caspo_tiny", "step_dpo_tiny", "outcome_dpo_tiny", "caspo_7b"}
    anchors = {"anchor_grpo_tiny", "care_anchor_grpo_tiny", "anchor_grpo_0_5b", "anchor_grpo_7b"}
    hybrids = {f"{method}_{size}" for method in ("rd", "rlif", "mixture", "hytuning") for size in ("tiny", "7b")}
    families = {name for names in FAMILIES.values() for name in names}
    assert {"base_tiny", "base_bytes"} | families | decisions | rounds | anchors | hybrids == set(NAMES)


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
    inherited = dict(leaves(compose._compose_extends(compose.read_file(name), name, (name,))))
    repeated = [key for key, value in leaves(own) if key in inherited and inherited[key] == value]
    assert not repeated, f"{name} repeats what it inherits: {repeated}"


@pytest.mark.parametrize("name", NAMES)
def test_has_a_line_of_its_own(name: str) -> None:
    line = dict(compose.recipe_lines())[name]
    assert line and line == load([f"recipe={name}"]).description
    assert [other for other, text in compose.recipe_lines() if text == line] == [name]


@pytest.mark.parametrize("name", [*TINY, "base_tiny", "sft_decision_tiny", "rd_tiny", "hytuning_tiny"])
def test_tiny_actors_ask_for_less_than_one_cpu_together(name: str) -> None:
    # four actors of one CPU each leave two pending for ever on a machine of two cores
    actors = plan(load([f"recipe={name}"])).actors
    assert sum(a.count * a.cpus_each for a in actors) <= 1.0
    assert sum(a.count * a.gpus_each for a in actors) == 0


@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        *((f"{size} scale=1_gpu_{card}gb", 1) for size in ("0_5b", "1_5b") for card in (24, 48, 80)),
        ("7b scale=1_gpu_80gb learner.lora.rank=32", 1),
        ("3b", 8),
        ("3b scale=8_gpus_colocated", 8),
        ("7b scale=8_gpus_colocated", 8),
        ("7b", 16),
        ("7b scale=16_gpus_colocated", 16),
        ("14b", 16),
        ("7b scale=64_gpus", 64),
        ("14b scale=64_gpus", 64),
    ],
)
@pytest.mark.parametrize("algorithm", ["grpo", "dapo"])
def test_fits_the_gpus_that_it_is_for(algorithm: str, words: str, gpus: int) -> None:
    """By the plan, with room to spare for fragmentation."""
    config = load([f"recipe=care_{algorithm}_{words.split()[0]}", *words.split()[1:]])
    made = plan(config)
    assert sum(node.gpus for node in made.nodes) == gpus
    if gpus == 1:  # the smallest machines with a GPU of 24 GB have four CPUs
        assert sum(group.count * group.cpus_each for group in made.actors) <= 4
    assert [str(overflow) for overflow in made.overflows] == []


# "1_gpu" is what those of a size have in common, and the last two are not for RL
OTHER = ("1_gpu", "8_gpus_finetune", "16_gpus_rounds")
SIZED = [name for name in compose.scale_names() if "gpu" in name and name not in OTHER]


@pytest.mark.parametrize("scale", SIZED)
def test_where_gpus_are_shared_the_card_is_named_and_what_overflows_it_is_refused(scale: str) -> None:
    """Not where each actor has its own: there the user's cards may be larger than the one that is assumed."""
    words = ["recipe=care_grpo_14b", f"scale={scale}", "rollout.gpu_memory_utilization=0.97"]
    config = load([*words, "dry_run=true"])
    assert is_named(config) == shares_gpu(config)
    if shares_gpu(config):
        with pytest.raises(ConfigError, match="does NOT fit") as caught:
            load(words)
        assert caught.value.field == "cluster.gpu"


def _everything_but_the_regularizer(name: str) -> dict[str, object]:
    tree = plain(load([f"recipe={name}"]))
    return {k: v for k, v in tree.items() if k not in ("regularizer", "recipe", "description")}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=map("_".join, FAMILIES))
def test_variants_of_a_family_differ_in_the_regularizer_only(family: list[str]) -> None:
    first, *others = map(_everything_but_the_regularizer, family)
    assert all(other == first for other in others)


@pytest.mark.parametrize("size", ["tiny", "3b", "7b"])
@pytest.mark.parametrize("method", METHODS)
def test_algorithms_of_a_penalty_differ_in_the_algorithm_only(method: str, size: str) -> None:
    """But for the strength in the tiny world, which was looked for under each algorithm."""

    def others(algorithm: str) -> dict[str, object]:
        tree = plain(load([f"recipe={method}_{algorithm}_{size}"]))
        if size == "tiny":
            tree["regularizer"].pop("beta", None)
        return {k: v for k, v in tree.items() if k not in ("algorithm", "recipe", "description")}

    assert others("dapo") == others("gspo") == others("grpo")
    sections = [load([f"recipe={method}_{algorithm}_{size}"]).algorithm for algorithm in ("grpo", "dapo", "gspo")]
    shared = ("group_size", "minibatches", "epochs", "update", "mismatch_cap", "mismatch_correction", "entropy_bonus")
    assert len({tuple(getattr(section, key) for key in shared) for section in sections}) == 1


@pytest.mark.parametrize(
    ("recipe", "low", "high"),
    [
        ("grpo_tiny", 0.2, 0.2),
        ("dapo_tiny", 0.2, 0.28),
        ("dapo_3b", 0.2, 0.28),
        ("gspo_tiny", 0.03, 0.04),
        ("gspo_3b", 3e-4, 4e-4),
        ("gspo_7b", 3e-4, 4e-4),
    ],
)
def test_clips(recipe: str, low: float, high: float) -> None:
    algorithm = load([f"recipe=care_{recipe}"]).algorithm
    assert (algorithm.clip_low, algorithm.clip_high) == (low, high)


def test_the_overlong_punishment_ends_at_the_generation_limit() -> None:
    large = load(["recipe=care_dapo_3b", "rollout.max_new_tokens=1500"]).algorithm
    assert (large.overlong_length, large.overlong_buffer) == (1500, 512)
    assert load(["recipe=care_dapo_tiny"]).algorithm.overlong_buffer == 0


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_has_a_fragment_that_any_recipe_takes(name: str) -> None:
    fragment = compose.read_file(f"algorithm/{name}", "extends")["algorithm"]
    config = ALGORITHMS[name].config
    assert fragment["name"] == name and set(fragment) <= {field.name for field in fields(config)}
    needed = {"constant_length": 8} if name == "dr_grpo" else {}
    words = [f"algorithm.{key}={value}" for key, value in {"name": name, **needed}.items()]
    switched = load(["recipe=care_grpo_tiny", *words]).algorithm
    own = config(group_size=switched.group_size, minibatches=switched.minibatches, **needed)
    assert switched == own, "its own defaults"


@pytest.mark.parametrize("name", sorted(REGULARIZERS))
def test_every_regularizer_has_a_fragment(name: str) -> None:
    fragment = compose.read_file(f"regularizer/{name}", "extends")["regularizer"]
    assert REGULARIZERS[name].config(**native(fragment)) == REGULARIZERS[name].config()


def test_tiny_rows_use_the_exact_divergence_and_the_papers_alpha() -> None:
    for algorithm, beta in (("grpo", 4.0), ("dapo", 7.0), ("gspo", 4.0)):
        care = load([f"recipe=care_{algorithm}_tiny"]).regularizer
        assert (care.name, care.beta, care.alpha, care.estimator) == ("srkl", beta, 0.8, "full")
        rkl = load([f"recipe=rkl_{algorithm}_tiny"]).regularizer
        assert (rkl.name, rkl.beta, rkl.estimator) == ("rkl", beta, "full")
    assert load(["recipe=rkl_tuned_grpo_tiny"]).regularizer.beta == 0.3
    assert load(["recipe=fkl_tuned_grpo_tiny"]).regularizer.name == "fkl"
    assert load(["recipe=care_grpo_tiny", "regularizer.estimator=score"]).regularizer.estimator == "score"


@pytest.mark.parametrize("size", ["3b", "7b"])
@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "gspo"])
def test_large_recipes_have_the_papers_settings(size: str, algorithm: str) -> None:
    config = load([f"recipe=care_{algorithm}_{size}"])
    assert (config.regularizer.beta, config.regularizer.alpha) == (0.04, 0.8)
    assert config.task.name == "math"
    assert config.model.path == f"Qwen/Qwen2.5-{size.upper()}"
    assert load([f"recipe=rkl_{algorithm}_{size}"]).regularizer.beta == 0.04


@pytest.mark.parametrize("size", DECISIONS)
def test_decision_recipes_differ_by_size_in_the_model_only(size: str) -> None:
    """And the two of one size ask the same questions of the same model, whatever they do with them."""

    def settings(name: str, *left_out: str) -> dict[str, object]:
        tree = plain(load([f"recipe={name}"]))
        return {k: v for k, v in tree.items() if k not in ("recipe", "description", *left_out)}

    for name, smallest in zip(DECISIONS[size], DECISIONS["1_7b"], strict=True):
        assert settings(name, "model") == settings(smallest, "model")
    ours, taught = (load([f"recipe={name}"]) for name in DECISIONS[size])
    assert (ours.task.train_questions, ours.task.validation_questions) == (500, 200)
    assert ours.checkpoint.best == taught.checkpoint.best == "argmax_accuracy"
    assert ours.task.benchmarks == ["commonsenseqa", "openbookqa"], "in its own domain, and out of it"
    d = ours.decision
    assert (d.name, d.weight, d.target, d.clamp, d.reward) == ("ce", 0.001, "paper", "uniform", "argmax")
    assert (ours.algorithm.name, ours.regularizer.name, ours.kind, taught.kind) == ("grpo", "none", "rl", "finetune")
    assert (ours.model, ours.rollout, ours.evaluation.samples) == (taught.model, taught.rollout, 16)
    assert replace(taught.task, teach="solution") == ours.task and taught.task.teach == "decision"


def test_the_tiny_world_teaches_the_questions_whose_golds_are_noisy() -> None:
    config = load(["recipe=sft_decision_tiny"])
    rl = load(["recipe=calibration_aware_tiny"])
    assert (config.kind, config.task.gold_noise) == ("finetune", 0.05)
    same = (config.task, config.prompts_per_step, config.steps, config.learner, config.evaluation)
    assert same == (rl.task, rl.prompts_per_step, rl.steps, rl.learner, rl.evaluation), "on the same questions"
    assert config.model == load(["recipe=care_grpo_tiny"]).model, "from the same base"


def test_the_readmes_table_of_scales_is_what_the_scales_set() -> None:
    """Every file of scale/ has a line; steps, prompts, lengths and learning rate are those of a run with it."""
    table = re.findall(r"(?m)^\| `(\w+)` \|[^|\n]+\|[^|\n]+\| (.+) \|$", README)
    assert sorted(scale for scale, _ in table) == compose.scale_names()
    for scale, cells in table:
        takes = {"tiny_rounds": "caspo_tiny", "tiny": "care_grpo_tiny", "rounds": "caspo_7b"}
        takes["finetune"] = "sft_decision_4b"
        recipe = next((name for word, name in takes.items() if word in scale), "care_grpo_0_5b")
        config = load([f"recipe={recipe}", f"scale={scale}", "dry_run=true"])
        rollout, rate = config.rollout, config.learner.optimizer.lr
        lengths = f"{rollout.max_new_tokens:,} of {rollout.max_model_len:,}"
        assert cells.split(" | ")[:3] == [str(config.steps), str(config.prompts_per_step), lengths], scale
        assert float(cells.split(" | ")[3]) == rate, scale
