"""Engines and ranks that share GPUs: what is refused before anything starts, and which runs share at all."""

from __future__ import annotations

import pytest

from carerl.config.load import base_config, load
from carerl.config.roles import Node, actor_groups, colocated, place, shares_gpu
from carerl.errors import ConfigError

HALVES = "learner.gpus_per_rank=0.5 rollout.gpus_per_actor=0.5"
PAIRS = f"recipe=care_grpo_3b cluster.placement=colocated learner.ranks=4 rollout.actors=4 {HALVES}"
OFFLOAD = "learner.optimizer_offload=true"
TINY = "recipe=care_grpo_tiny cluster.placement=colocated"


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        (f"{PAIRS} rollout.actors=3", "rollout.actors", "there are 4 ranks and 3 engines"),
        (f"{TINY} learner.ranks=2", "rollout.actors", "there are 2 ranks and 1 engines"),
        (f"{PAIRS} rollout.tensor_parallel=2 rollout.gpus_per_actor=2", "rollout.tensor_parallel", "first fit"),
        (f"{PAIRS} rollout.gpus_per_actor=0", "rollout.gpus_per_actor", "one of them has none"),
        (f"{PAIRS} learner.gpus_per_rank=0", "rollout.gpus_per_actor", "one of them has none"),
        (f"{PAIRS} learner.gpus_per_rank=0.6", "rollout.gpus_per_actor", "ask for 1.1"),
        (f"{PAIRS} learner.gpus_per_rank=0.4", "rollout.gpus_per_actor", "ask for 0.9"),
        (f"{PAIRS} learner.gpus_per_rank=1 rollout.gpus_per_actor=1", "rollout.gpus_per_actor", "ask for 2"),
        (f"{TINY} {OFFLOAD}", "learner.optimizer_offload", "without a GPU"),
        (f"recipe=care_grpo_3b {OFFLOAD}", "learner.optimizer_offload", "no engine is there"),
        (
            f"{PAIRS} {OFFLOAD} learner.cpu_offload=true",
            "learner.optimizer_offload",
            "all the time",
        ),
        (f"{PAIRS} {OFFLOAD} learner.backend=deepspeed", "learner.optimizer_offload", "keeps its"),
    ],
)
def test_what_cannot_share_is_refused_with_what_would_work(words: str, field: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load(words.split())
    assert caught.value.field == field and caught.value.remedy


def test_what_can_share_is_taken() -> None:
    for words in (TINY, f"{TINY} learner.ranks=2 rollout.actors=2", PAIRS, f"{PAIRS} {OFFLOAD}"):
        assert colocated(load(words.split()))
    assert shares_gpu(load(PAIRS.split())) and not shares_gpu(load(TINY.split()))


def test_a_run_of_a_kind_without_both_shares_nothing() -> None:
    """The base model's settings of a cluster are the run's own."""
    config = load(TINY.split())
    assert base_config(config).cluster.placement == "colocated" and not colocated(base_config(config))
    assert not colocated(load(["recipe=base_tiny", "cluster.placement=colocated"]))
    assert [group.shares_with for group in actor_groups(config)] == ["", "learner", "", ""]


def test_a_plan_puts_an_engine_on_the_node_of_its_rank() -> None:
    """First fit by roles would put four ranks on two GPUs, and two engines with them."""
    nodes = place(load(f"{PAIRS} cluster.gpus_per_node=3".split()))
    assert nodes == [
        Node({"learner": 3, "rollout": 3, "grading": 4}, 3.0),
        Node({"learner": 1, "rollout": 1, "reference": 1}, 2.0),
    ]
