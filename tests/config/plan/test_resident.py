"""The parts of an actor's resident memory against sums done by hand. Against real runs: tests/e2e/test_resident.py."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.memory import GIB, actor_memory
from carerl.config.plan.pinned import pinned_growth
from carerl.config.plan.plan import plan
from carerl.config.plan.processes import ON_CPU, ON_GPU, WITH_TOKENIZER
from carerl.config.plan.render import render
from carerl.config.plan.resident import resident_parts
from carerl.config.roles import ROLES, actor_groups
from carerl.config.shapes import count_parameters, effective_shape

# the 135M model on the CPU
SMALL = [
    "recipe=calibration_aware_1_7b", "model.path=smollm2", "task.thinking=default", "cluster.gpus_per_node=0",
    "rollout.gpus_per_actor=0", "rollout.actors=1", "rollout.max_model_len=256", "rollout.max_new_tokens=16",
    "rollout.max_batch_rows=64", "rollout.kv_cache_gib=.5", "learner.gpus_per_rank=0", "learner.ranks=1",
    "learner.micro_batch_rows=4", "learner.head_chunk_tokens=256", "reference.gpus_per_actor=0", "reference.actors=1",
    "reference.micro_batch_rows=4", "grading.actors=1", "prompts_per_step=2", "algorithm.group_size=2",
    "evaluation.scored_samples=1", "evaluation.questions=4", "evaluation.every=0",
]  # fmt: skip
SEVEN = ["recipe=care_grpo_7b"]


def parts(words: list[str], role: str) -> dict[str, float]:
    config = load(words)
    return resident_parts(config, effective_shape(config)[0], role)


def total(words: list[str], role: str) -> float:
    return sum(parts(words, role).values())


def test_a_learner_on_the_cpu_is_largest_as_it_saves() -> None:
    """Weights, gradients and two moments of 4 bytes, copies of three of them, the model in bfloat16, and buckets."""
    n = count_parameters(effective_shape(load(SMALL))[0]).total / GIB
    assert total(SMALL, "learner") == pytest.approx(ON_CPU["learner"] + 16 * n + 12 * n + 2 * n + 2 * n)
    assert "activations" not in parts(SMALL, "learner"), "they are gone by then"
    # in an update with long chunks of logits it is larger than that
    config = load(
        longer := [*SMALL, "learner.head_chunk_tokens=4096", "learner.micro_batch_rows=64", "algorithm.group_size=64"]
    )
    step = actor_memory(config, effective_shape(config)[0], (ROLES["learner"](config),))["learner"]
    found = parts(longer, "learner")
    assert "copy to save" not in found and found["head"] == step["head"] and found["activations"] == step["activations"]


def test_an_engine_has_its_weights_twice_and_a_reference_where_it_casts_them() -> None:
    n = count_parameters(effective_shape(load(SMALL))[0]).total / GIB
    logits = 4 * 64 * 49152 / GIB
    assert total(SMALL, "rollout") == pytest.approx(ON_CPU["rollout"] + 2 * 2 * n + 0.5 + logits + 2 * n)
    small = parts([*SMALL, "sync.bucket_mib=32"], "rollout")
    assert small["sync buckets"] == pytest.approx(2 * 49152 * 576 * 2 / GIB), "two, of the embedding each"
    assert "files" not in parts(SMALL, "reference")
    cast = parts([*SMALL, "reference.compute_dtype=float32", "reference.micro_batch_rows=1"], "reference")
    assert cast["weights"] + cast.get("files", 0) >= 4 * n and total(SMALL, "grading") == WITH_TOKENIZER


def test_on_a_gpu_the_host_has_what_is_saved_sent_or_offloaded() -> None:
    n = count_parameters(load(SEVEN).model.shape).total / GIB
    assert total(SEVEN, "learner") == pytest.approx(ON_GPU + 12 * n / 8 + 2 * n)
    # weights go from GPU to GPU, and come out of files at first
    assert parts(SEVEN, "rollout") == pytest.approx({"process": ON_GPU, "files": 2 * n})
    away = parts([*SEVEN, "learner.cpu_offload=true"], "learner")
    growth = pinned_growth(load(SEVEN).model.shape, 4, 8)  # of weights and gradients, the optimizer's is not pinned
    assert away["offloaded"] == pytest.approx((growth * 8 + 8) * n / 8)
    host = parts([*SEVEN, "sync.transfer=store"], "learner")
    bucket = 2 * 152064 * 3584 / GIB
    assert host["sync buckets"] == pytest.approx(3 * bucket)


@pytest.mark.parametrize("engine", ["vllm", "hf"])
def test_weights_that_no_sync_brings_wait_on_the_host_by_actor_and_by_node(engine: str) -> None:
    """With adapters the model's own, while the engine sleeps; without them the next sync brings all."""
    words = ["recipe=care_grpo_1_5b", "scale=1_gpu_24gb", f"rollout.engine={engine}"]
    config = load(words)
    shape, _ = effective_shape(config)
    asleep = 2 * count_parameters(shape).total / GIB * (pinned_growth(shape, 2) if engine == "vllm" else 1)
    assert parts(words, "rollout")["weights asleep"] == pytest.approx(asleep)
    (node,), (process,) = plan(config).host, plan(load([*words, "learner.lora.rank=0", "dry_run=true"])).host
    assert node.moments["resting"] - process.moments["resting"] == pytest.approx(asleep)
    assert "weights asleep" not in parts([*words, "learner.lora.rank=0", "dry_run=true"], "rollout")
    apart = ["recipe=care_grpo_7b", "learner.lora.rank=16"]
    assert "weights asleep" not in parts(apart, "rollout"), "an engine with a GPU of its own never sleeps"


@pytest.mark.parametrize("words", [SMALL, SEVEN, ["recipe=caspo_7b"]])
def test_the_dry_run_shows_every_actor(words: list[str]) -> None:
    shown = render(plan(load(words))).split("Main memory of each actor at its peak")[1].split("\n\n")[0]
    for role in (group.role for group in actor_groups(load(words))):
        (row,) = [line for line in shown.splitlines() if line.split()[:1] == [role]]
        assert row.split()[1] == f"{total(words, role):.3g}"
