"""Which way weights go from the learner to the engines, by GPUs, engine and nodes."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.transfer import allocator_errors, transfer_kind
from carerl.errors import ConfigError

TINY, GPUS = "recipe=care_grpo_tiny", "recipe=care_grpo_3b"
HALVES = "learner.gpus_per_rank=0.5 rollout.gpus_per_actor=0.5"
PAIRS = f"cluster.placement=colocated learner.ranks=4 rollout.actors=4 {HALVES}"


@pytest.mark.parametrize(
    ("words", "together", "kind"),
    [
        (TINY, True, "shm"),
        (TINY, False, "store"),
        (f"{TINY} sync.transfer=store", True, "store"),
        (GPUS, True, "nccl"),
        (GPUS, False, "nccl"),
        (f"{GPUS} sync.transfer=shm", True, "shm"),
        (f"{GPUS} learner.gpus_per_rank=0.5 rollout.gpus_per_actor=0.5", True, "shm"),
        (f"{GPUS} learner.gpus_per_rank=0.5 rollout.gpus_per_actor=0.6", True, "nccl"),
        (f"{GPUS} {PAIRS}", True, "ipc"),
        (f"{GPUS} {PAIRS}", False, "ipc"),  # each engine is on the GPU of a rank, wherever the pairs are
        (f"{GPUS} {PAIRS} sync.transfer=shm", True, "shm"),
        (f"{GPUS} {PAIRS} rollout.engine=hf", True, "shm"),
        (f"{TINY} cluster.placement=colocated", True, "shm"),
        (f"{TINY} cluster.placement=colocated", False, "store"),
        (f"{GPUS} rollout.engine=hf", True, "shm"),
        (f"{GPUS} rollout.engine=hf", False, "store"),
    ],
)
def test_auto_takes_the_shortest_way_that_there_is(words: str, together: bool, kind: str) -> None:
    assert transfer_kind(load(words.split()), together) == kind


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"{TINY} sync.transfer=shm", "engines are on other nodes"),
        (
            f"{GPUS} rollout.tensor_parallel=2 rollout.gpus_per_actor=2 learner.gpus_per_rank=0",
            "would be copied to each",
        ),
    ],
)
def test_what_only_the_nodes_show_is_refused_when_they_are_known(words: str, reason: str) -> None:
    config = load(words.split())
    transfer_kind(config)
    with pytest.raises(ConfigError, match=reason):
        transfer_kind(config, together=False)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"{HALVES} sync.transfer=nccl", "does not connect two processes on one GPU"),
        (f"{PAIRS} sync.transfer=nccl", "does not connect two processes on one GPU"),
        (f"{HALVES} sync.transfer=ipc", "nothing places an engine on the GPU of a rank"),
        (f"{HALVES} sync.transfer=ipc learner.ranks=1 rollout.actors=1", "nothing places an engine"),
        ("sync.transfer=ipc learner.ranks=1 rollout.actors=1", "nothing places an engine"),
    ],
)
def test_a_way_that_shares_of_gpus_rule_out_is_refused(words: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load([GPUS, *words.split()])
    assert caught.value.field == "sync.transfer"
    load([GPUS, *PAIRS.split(), "sync.transfer=ipc"])


GROWS = "max_split_size_mb:512, expandable_segments:True"


@pytest.mark.parametrize(
    ("words", "environment", "refused"),
    [
        (PAIRS, {"PYTORCH_CUDA_ALLOC_CONF": GROWS}, "PYTORCH_CUDA_ALLOC_CONF"),
        (PAIRS, {"PYTORCH_ALLOC_CONF": "expandable_segments:true"}, "PYTORCH_ALLOC_CONF"),
        # torch reads the first alone
        (PAIRS, {"PYTORCH_ALLOC_CONF": "max_split_size_mb:512", "PYTORCH_CUDA_ALLOC_CONF": GROWS}, ""),
        (PAIRS, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, ""),
        (PAIRS, {}, ""),
        (f"{PAIRS} sync.transfer=shm", {"PYTORCH_CUDA_ALLOC_CONF": GROWS}, ""),
        ("", {"PYTORCH_CUDA_ALLOC_CONF": GROWS}, ""),  # by nccl
    ],
)
def test_growing_segments_of_a_users_own_are_refused_where_handles_to_them_are_sent(
    words: str, environment: dict[str, str], refused: str
) -> None:
    found = list(allocator_errors(load([GPUS, *words.split()]), environment))
    assert [error.field for error in found] == [refused] * bool(refused)
    assert all("sync.transfer=shm" in error.remedy and "expandable_segments" in error.remedy for error in found)
