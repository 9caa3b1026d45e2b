"""Which way weights go from the learner to the engines, by GPUs, engine and nodes."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.transfer import transfer_kind
from carerl.errors import ConfigError

TINY, GPUS = "recipe=care_grpo_tiny", "recipe=care_grpo_3b"


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


HALVES = "learner.gpus_per_rank=0.5 rollout.gpus_per_actor=0.5"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"{HALVES} sync.transfer=nccl", "does not connect two processes on one GPU"),
        (f"{HALVES} sync.transfer=ipc", "nothing places them so"),
        ("sync.transfer=ipc learner.ranks=1 rollout.actors=1", "have GPUs apart"),
    ],
)
def test_a_way_that_shares_of_gpus_rule_out_is_refused(words: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load([GPUS, *words.split()])
    assert caught.value.field == "sync.transfer"
    load([GPUS, *HALVES.split(), "learner.ranks=1", "rollout.actors=1", "sync.transfer=ipc"])
