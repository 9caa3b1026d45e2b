"""Adapters that a model has no layers for, or that a run's other settings do not go with, are refused at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import base_config, dump, load
from carerl.config.roles import actor_groups
from carerl.config.schema import LoraConfig, ShapeConfig
from carerl.config.shapes import layer_matrices
from carerl.errors import ConfigError

RANK = "learner.lora.rank=8"
RECIPE = "recipe=care_grpo_tiny"
HALF = ["learner.compute_dtype=bfloat16", "reference.compute_dtype=bfloat16"]


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ([RANK, "learner.lora.targets=[]"], "learner.lora.targets", "nothing would be trained"),
        ([RANK, "learner.lora.targets=[q_proj,lm_head]"], "learner.lora.targets", "qwen3 have q_proj"),
        (["learner.lora.rank=65"], "learner.lora.rank", "q_proj is 64 × 64"),
        (["learner.lora.rank=33", "model.shape.num_kv_heads=1"], "learner.lora.rank", "k_proj is 32 × 64"),
        ([RANK, "learner.compute_dtype=bfloat16"], "reference.compute_dtype", "without its adapters"),
        ([RANK, *HALF, "learner.backend=deepspeed"], "model.dtype", "frozen weights in learner.compute_dtype"),
        (["learner.lora.rank=-1"], "learner.lora.rank", "at least 0"),
        ([RANK, "learner.lora.alpha=0"], "learner.lora.alpha", "above 0"),
        ([RANK, "learner.lora.export=both"], "learner.lora.export", "merged, adapter"),
        (
            ["learner.lora.rank=520", "model.shape.hidden_size=1024", "model.shape.num_heads=32",
             "model.shape.num_kv_heads=32", "model.shape.intermediate_size=2048"],
            "learner.lora.rank", "vLLM takes a rank of 512",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(words: list[str], field: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        load([RECIPE, *words])
    assert error.value.field == field


def test_a_model_made_from_nothing_has_no_adapters_and_the_base_of_a_run_with_adapters_is_such_a_model() -> None:
    with pytest.raises(ConfigError, match="made from nothing") as error:
        load(["recipe=base_tiny", RANK])
    assert error.value.field == "learner.lora.rank"
    assert base_config(load([RECIPE, RANK])).learner.lora.rank == 0


def test_what_is_left_out_is_not_compared() -> None:
    """A rank that the key's matrix has no room for is none of its business where it gets no adapter."""
    load([RECIPE, "model.shape.num_kv_heads=1", "learner.lora.rank=33", "learner.lora.targets=[q_proj,up_proj]"])
    load([RECIPE, "learner.lora.targets=[nothing]"])  # and without adapters nothing is


@pytest.mark.parametrize("backend", ["fsdp2", "deepspeed"])
@pytest.mark.parametrize("words", [[], [*HALF, "model.dtype=bfloat16"]])
def test_the_reference_has_no_actor(backend: str, words: list[str]) -> None:
    config = load([RECIPE, RANK, f"learner.backend={backend}", *words])
    assert config.reference.place == "actors"
    assert [group.role for group in actor_groups(config)] == ["learner", "rollout", "grading"]
    assert "reference" in [group.role for group in actor_groups(load([RECIPE]))]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_the_matrices_are_those_of_the_architecture(architecture: str) -> None:
    """And every default target is one of them."""
    from carerl.backends.models import make_model

    shape = ShapeConfig(architecture=architecture, num_kv_heads=1, intermediate_size=80, num_layers=1)
    made: Any = make_model(shape, (1,))
    linear = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in made.get_decoder().named_modules()
        if hasattr(module, "in_features")
    }
    assert layer_matrices(shape) == linear
    assert set(LoraConfig().targets) == set(linear)


@pytest.mark.parametrize(
    ("word", "now", "then"),
    [
        ("learner.lora.rank=4", 4, 8),
        ("learner.lora.rank=0", 0, 8),
        ("learner.lora.alpha=16", 16.0, 32.0),
        ("learner.lora.targets=[q_proj]", ["q_proj"], ["q_proj", "v_proj"]),
    ],
)
def test_a_resumed_run_keeps_its_adapters(word: str, now: object, then: object, tmp_path: Path) -> None:
    words = [RECIPE, RANK, "learner.lora.targets=[q_proj,v_proj]"]
    (tmp_path / "config.yaml").write_text(dump(load(words)))
    assert load([f"resume={tmp_path}", "learner.lora.export=adapter"]).learner.lora.export == "adapter"
    with pytest.raises(ConfigError) as caught:
        load([f"resume={tmp_path}", word])
    field = word.partition("=")[0]
    assert (caught.value.field, caught.value.value) == (field, now)
    assert f"started with {then}, and with another value it would be another run" in caught.value.reason
    assert caught.value.remedy == f"leave {field} out, or start a new run without resume="
