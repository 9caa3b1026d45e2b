"""What a plan says of adapters, by hand for a model of 7 billion parameters. Next to a real learner:
``tests/backends/test_planned_bytes.py``."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.host_memory import checkpoint_bytes, disk_bytes
from carerl.config.plan.memory import GIB
from carerl.config.plan.plan import Plan, plan
from carerl.config.plan.render import render
from carerl.config.shapes import count_parameters

SEVEN = "recipe=care_grpo_7b"
RANK = "learner.lora.rank=16"
# Of Qwen2.5-7B: hidden 3584, 28 heads and 4 key-value heads of 128, MLP 18944, 28 layers. A has as many columns as a
# matrix, B as many rows.
SIDES = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
ADAPTERS = 28 * 16 * SIDES
STATE = ("weights", "gradients", "optimizer")


def planned(*words: str) -> Plan:
    return plan(load([SEVEN, RANK, "dry_run=true", *words]))


def state(*words: str) -> list[float]:
    memory = planned(*words).memory["learner"]
    return [memory[name] * GIB for name in STATE]


def test_only_adapters_have_gradients_and_an_optimizer() -> None:
    """Eight ranks. fsdp2 keeps frozen weights as the engines have them, deepspeed as it computes, here both in
    bfloat16."""
    n, m = count_parameters(planned().shape).total, ADAPTERS
    assert m == 40_370_176
    assert state() == pytest.approx([(2 * n + 4 * m) / 8, 4 * m / 8, 8 * m / 8])
    deepspeed = "learner.backend=deepspeed"
    assert state(deepspeed, "learner.zero_stage=1") == pytest.approx([2 * (n + m), 6 * m, 12 * m / 8])
    assert state(deepspeed, "learner.zero_stage=2") == pytest.approx([2 * (n + m), 4 * m / 8, 12 * m / 8])
    assert state(deepspeed, "learner.zero_stage=3") == pytest.approx([2 * (n + m) / 8, 4 * m / 8, 12 * m / 8])


def test_fewer_targets_are_fewer_parameters() -> None:
    few = state("learner.lora.targets=[q_proj,v_proj]")
    assert few[1] == pytest.approx(4 * 28 * 16 * (3584 + 3584 + 3584 + 512) / 8)


def test_nothing_is_counted_for_a_second_model_or_for_gradients_of_a_frozen_head() -> None:
    found, whole = planned(), plan(load([SEVEN, "reference.place=learner", "dry_run=true"]))
    assert "reference" not in found.memory and found.memory["learner"]["reference"] == 0
    assert whole.memory["learner"]["reference"] > 1
    head = whole.shape.vocab_size * whole.shape.hidden_size / GIB
    matrices = [one.memory["learner"]["head matrices"] / head for one in (whole, found)]
    assert matrices == pytest.approx([4 + 2, 0]), "the gradient in float32 and the reference's own; neither"
    assert found.memory["learner"]["root gradients"] == 0 < whole.memory["learner"]["root gradients"]
    assert found.memory["rollout"]["adapters"] * GIB == pytest.approx(2 * 2 * ADAPTERS)


def test_a_sync_brings_adapters_and_a_checkpoint_holds_them_with_their_moments() -> None:
    found, n = planned(), count_parameters(planned().shape).total
    assert found.sync_bytes == 2 * ADAPTERS
    assert found.checkpoint_bytes == 12 * ADAPTERS + 2 * n
    best = ["task.validation_questions=200", "checkpoint.best=accuracy"]
    apart = load([SEVEN, RANK, "learner.lora.export=adapter", *best])
    assert checkpoint_bytes(apart, found.shape) == (12 + 4) * ADAPTERS
    kept = (apart.checkpoint.keep + 1) * 16 * ADAPTERS
    assert disk_bytes(apart, found.shape) == kept + 2 * 4 * ADAPTERS


def test_steps_take_less_than_with_all_weights_and_syncs_hardly_anything() -> None:
    found, whole = planned().compute, plan(load([SEVEN, "dry_run=true"])).compute
    assert found is not None and whole is not None
    assert found.stages["layers"] == pytest.approx(0.75 * whole.stages["layers"]), "with checkpointing 3 passes of 4"
    assert found.stages["head"] < whole.stages["head"]
    assert found.stages["weight sync"] < 0.02 * whole.stages["weight sync"]


def test_the_dry_run_says_it_in_words() -> None:
    text = render(planned())
    assert "adapters of rank 16 on q_proj, k_proj" in text and "40,370,176 parameters are trained" in text
    assert "reference is the learner without its adapters" in text and "stay in bfloat16" in text
    assert "adapters" not in render(plan(load([SEVEN, "dry_run=true"]))).split("Model")[1]
