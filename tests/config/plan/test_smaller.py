"""What is said to make a part of an actor's memory smaller does so, by the plan's own sums."""

from __future__ import annotations

import functools
import re

import pytest

from carerl.config.load import load
from carerl.config.plan.advice import NO_ADVICE, advice
from carerl.config.plan.memory import actor_memory
from carerl.config.plan.resident import resident_parts
from carerl.config.plan.smaller import LITTLE, smaller
from carerl.config.roles import ROLES, actor_groups, colocated
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape

SEVEN = "recipe=care_grpo_7b"
TINY = "recipe=care_grpo_tiny"
RUNS = {
    "cards": [SEVEN],
    "one row": [SEVEN, "learner.micro_batch_rows=1", "learner.gradient_checkpointing=true"],
    "adapters on a shared card": ["recipe=care_dapo_1_5b", "scale=1_gpu_24gb"],
    "one shared card": ["recipe=care_grpo_1_5b", "scale=1_gpu_48gb"],
    "shared cards": ["recipe=care_grpo_7b", "scale=8_gpus_colocated"],
    "deepspeed": [SEVEN, "learner.backend=deepspeed", "learner.cpu_offload=true", "reference.place=learner"],
    "log-probs": ["recipe=rkl_grpo_7b", "reference.compute_dtype=float32"],
    "plain engine": [TINY, "rollout.engine=hf"],
    "no card": [TINY],
}
# parts that no setting makes smaller without another model
FIXED = {
    "process", "root gradients", "buckets", "head matrices", "files", "gathered", "exported model", "packed weights",
    "weights asleep",
}  # fmt: skip
WAY = re.compile(r"(lower|raise|write) ([a-z_]+(?:\.[a-z_]+)+)(?: \(now ([^)]+)\)|=(\w+(?: [a-z_.]+=\w+)*))")


def parts_of(words: list[str], role: str, on_gpu: bool) -> tuple[RunConfig, dict[str, float]]:
    """The parts of one actor, on one of its GPUs or in main memory; none for a role that the run does not have."""
    config = load(words)
    shape, _ = effective_shape(config)
    group = ROLES[role](config)
    if group not in actor_groups(config):
        return config, {}
    if not on_gpu:
        return config, resident_parts(config, shape, role)
    cards = config.rollout.tensor_parallel if role == "rollout" else 1
    parts = actor_memory(config, shape, (group,)).get(role, {}) if group.gpus_each else {}
    return config, {name: gib / cards for name, gib in parts.items()}


def changed(words: list[str], kind: str, setting: str, now: str, value: str) -> list[str]:
    """The words of the run with a way taken: half of it, twice of it, or what is to be written."""
    if kind == "write":
        return [*words, *f"{setting}={value}".split()]
    new = "1" if setting == "sync.bucket_mib" else f"{float(now) * (0.5 if kind == 'lower' else 2):g}"
    both = {"rollout.tensor_parallel": [f"rollout.gpus_per_actor={new}"]}
    if colocated(load(words)):
        both["learner.ranks"] = [f"rollout.actors={new}"]
    return [*words, f"{setting}={new}", *both.get(setting, [])]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize("role", ROLES)
def test_every_way_that_is_named_makes_that_part_smaller(name: str, role: str, on_gpu: bool) -> None:
    words = RUNS[name]
    config, parts = parts_of(words, role, on_gpu)
    for part, gib in parts.items():
        told = smaller(config, role, part, on_gpu)
        if gib < 0.001:  # of the tiny model not even a bucket is full
            continue
        alone = colocated(config) and role == "rollout" and part == "weights"  # on a shared GPU nothing splits them
        assert told or part in FIXED or alone, f"{part} of {role} has no remedy"
        for kind, setting, now, value in WAY.findall(told):
            if kind != "write":
                own = functools.reduce(getattr, setting.split("."), config)
                assert f"{own:g}" == now, "what it says of the run is true"
            _, after = parts_of(changed(words, kind, setting, now, value), role, on_gpu)
            assert after.get(part, 0.0) < gib, f"{role}: {told} leaves {part} at {gib}"


def test_the_largest_part_that_a_setting_makes_smaller_is_named_first() -> None:
    config = load([SEVEN])
    shape, _ = effective_shape(config)
    parts = actor_memory(config, shape, (ROLES["learner"](config),))["learner"]
    assert max(parts, key=lambda part: parts[part]) == "activations"
    assert advice(config, "learner").card.startswith("lower learner.micro_batch_rows (now 8): activations, ")
    many = load([SEVEN, "learner.micro_batch_rows=1", "learner.gradient_checkpointing=true"])
    assert "raise learner.ranks (now 8)" in advice(many, "learner").card
    assert advice(config, "a plugin's role") is NO_ADVICE


def on_shared(role: str, phase: str, *words: str) -> str:
    return advice(load(["recipe=care_grpo_7b", "scale=8_gpus_colocated", *words]), role, phase).card


def test_on_a_shared_card_both_actors_parts_count_by_what_was_asked_for() -> None:
    """While a rank trains the engine has nothing that could be lowered; while it scores the engine is awake."""
    training, scoring = on_shared("learner", "train"), on_shared("learner", "score")
    assert "lower learner.micro_batch_rows (now 8)" in training and "in training, GiB, are learner's " in training
    assert "gpu_memory_utilization" not in training and "optimizer_offload" not in training
    assert scoring.startswith("lower rollout.gpu_memory_utilization (now 0.6)") and "engine's KV cache" in scoring
    assert "write learner.optimizer_offload=true" in on_shared("learner", "sync")
    assert "gpu_memory_utilization" in on_shared("rollout", "generate")
    assert on_shared("learner", "") == scoring, "the fullest of its moments, where it is not known what was asked for"
    apart = load(["recipe=care_grpo_7b"])
    assert advice(apart, "learner", "score") == advice(apart, "learner", "train"), "nobody else is on its GPU"


def test_little_parts_are_not_named() -> None:
    """Of a learner with adapters the host has a small copy to save; what it exports is more than that."""
    words = ["recipe=care_grpo_1_5b", "scale=1_gpu_24gb"]
    assert advice(load(words), "learner").host.startswith("write learner.lora.export=adapter: exported model, ")
    apart = load([*words, "learner.lora.export=adapter"])
    parts = resident_parts(apart, effective_shape(apart)[0], "learner")
    assert 0 < parts.get("copy to save", 0.1) < LITTLE * sum(parts.values()) and advice(apart, "learner").host == ""
    one = load(["recipe=care_grpo_1_5b", "scale=1_gpu_80gb"])
    told = advice(one, "learner", "train").card
    assert "learner.lora.rank=16" in told and "raise learner.ranks" not in told, "there is one GPU"


def test_an_engine_is_told_its_own_memory_on_a_card_and_on_the_host() -> None:
    assert advice(load([SEVEN]), "rollout").card.startswith("lower rollout.gpu_memory_utilization")
    tiny = load([TINY, "rollout.kv_cache_gib=4"])
    assert advice(tiny, "rollout").card == "" and advice(tiny, "rollout").host.startswith("lower rollout.kv_cache_gib")
