"""Settings of the learner that its backend or its devices do not know are refused, and all others hold for both."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.errors import ConfigError

GPU = "learner.gpus_per_rank=1"
RECIPE = "recipe=care_grpo_tiny"
DEEPSPEED = "learner.backend=deepspeed"


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ([DEEPSPEED, "learner.ranks=4", "learner.shard_ranks=2"], "learner.shard_ranks", "shards over all ranks"),
        ([DEEPSPEED, "learner.compute_dtype=float64"], "learner.compute_dtype", "float32 at most"),
        ([DEEPSPEED, "learner.zero_stage=3", "learner.compile=true"], "learner.compile", "each part of a layer"),
        ([DEEPSPEED, "learner.zero_stage=4"], "learner.zero_stage", "1, 2, 3"),
        (["learner.zero_stage=3"], "learner.zero_stage", "fsdp2 has no such stages"),
        (["learner.ranks=4", "learner.shard_ranks=3"], "learner.shard_ranks", "do not divide into groups"),
        (["learner.ranks=2", "learner.shard_ranks=4"], "learner.shard_ranks", "do not divide into groups"),
        (["learner.cpu_offload=true"], "learner.cpu_offload", "without a GPU"),
        ([DEEPSPEED, "learner.activation_offload=true"], "learner.activation_offload", "without a GPU"),
    ],
)
def test_what_cannot_be_done_is_refused(words: list[str], field: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        load([RECIPE, *words])
    assert error.value.field == field


@pytest.mark.parametrize("backend", ["fsdp2", "deepspeed"])
def test_a_recipe_changes_nothing_but_the_backend(backend: str) -> None:
    for words in (
        ["learner.compute_dtype=bfloat16", "model.dtype=bfloat16", "learner.gradient_checkpointing=true"],
        ["learner.compile=true", "learner.optimizer.weight_decay=0.1", "learner.optimizer.grad_clip=0"],
        ["cluster.gpus_per_node=8", GPU, "learner.cpu_offload=true", "learner.activation_offload=true"],
    ):
        assert load([RECIPE, f"learner.backend={backend}", *words]).learner.backend == backend


def test_groups_that_divide_the_ranks_are_fine() -> None:
    for size in (0, 1, 2, 4):
        assert load([RECIPE, "learner.ranks=4", f"learner.shard_ranks={size}"]).learner.shard_ranks == size
