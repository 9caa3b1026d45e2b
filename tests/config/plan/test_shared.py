"""The plan of GPUs that engines and ranks share: sums of parts by hand, what is refused, what offloading changes."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.host_memory import host_memory
from carerl.config.plan.memory import CONTEXT_GIB, GIB, learner_memory, overflows
from carerl.config.plan.pinned import pinned_growth
from carerl.config.plan.plan import plan
from carerl.config.plan.render import render
from carerl.config.plan.seconds import turn_seconds, work_of
from carerl.config.plan.shared import GRAPHS_GIB, Moment, shared_moments, shared_overflows
from carerl.config.roles import actor_groups, place
from carerl.config.schema import RunConfig
from carerl.config.shapes import count_parameters
from carerl.errors import ConfigError

PAIRS = (
    "recipe=care_grpo_7b cluster.placement=colocated learner.ranks=8 rollout.actors=8 learner.gpus_per_rank=0.5 "
    "rollout.gpus_per_actor=0.5 reference.place=learner rollout.gpu_memory_utilization=0.5 cluster.gpu=h100"
)
OFFLOAD = "learner.optimizer_offload=true"
# Qwen2.5-32B, from its config.json
SHAPE_32B = (
    "model.shape.hidden_size=5120 model.shape.intermediate_size=27648 model.shape.num_layers=64 "
    "model.shape.num_heads=40 model.shape.num_kv_heads=8 model.shape.head_dim=128 model.shape.vocab_size=152064"
)


def asked(*words: str) -> RunConfig:
    return load([word for part in words for word in part.split()])


def moments(config: RunConfig) -> dict[str, Moment]:
    return {moment.name: moment for moment in shared_moments(config, config.model.shape)}


def test_a_resting_rank_has_weights_optimizer_and_reference_and_a_sleeping_engine_its_graphs() -> None:
    """4N/8 of weights, 8N/8 of moments, 2N/8 and a layer or an embedding of the reference."""
    config = asked(PAIRS)
    shape, found = config.model.shape, moments(asked(PAIRS))
    n = count_parameters(shape).total
    head = shape.vocab_size * shape.hidden_size
    resting = (4 * n + 8 * n + 2 * n) / 8 / GIB + 2 * head / GIB
    assert sum(found["sampling"].rank.values()) == pytest.approx(resting)
    assert sum(found["sampling"].engine.values()) == pytest.approx(0.5 * 79.1)
    assert found["sampling"].total == pytest.approx(resting + 0.5 * 79.1 + 2 * CONTEXT_GIB)
    assert found["training"].engine == {"CUDA graphs": GRAPHS_GIB}
    assert found["training"].rank == learner_memory(config, shape)
    assert found["scoring"].total > found["sampling"].total > found["sync"].total
    assert "KV cache" not in found["sync"].engine, "it wakes after the weights"
    # the frozen head: whole in a pass where the ranks hold the reference, always where actors do, never with adapters
    heads = [
        {name for name in ("sampling", "scoring") if "reference's head" in moments(asked(PAIRS, words))[name].rank}
        for words in ("", "reference.place=actors", "learner.lora.rank=16")
    ]
    assert heads == [{"scoring"}, {"sampling", "scoring"}, set()]
    assert "gradients" not in found["sampling"].rank, "fsdp2 frees them in every step"
    deepspeed = moments(asked(PAIRS, "learner.backend=deepspeed"))["sampling"].rank
    assert deepspeed["gradients"] == pytest.approx(4 * n / 8 / GIB) and deepspeed["buckets"] > 0


def test_offloading_takes_the_moments_from_the_gpu_to_the_host_while_engines_sample() -> None:
    kept, moved = asked(PAIRS), asked(PAIRS, OFFLOAD)
    optimizer = learner_memory(kept, kept.model.shape)["optimizer"]
    for name in ("sync", "sampling", "scoring"):
        assert moments(kept)[name].total - moments(moved)[name].total == pytest.approx(optimizer)
    assert moments(kept)["training"] == moments(moved)["training"]
    hosts = [host_memory(config, config.model.shape, place(config))[0].moments["resting"] for config in (kept, moved)]
    assert hosts[1] - hosts[0] == pytest.approx(8 * optimizer * pinned_growth(kept.model.shape, 4, 8))
    seconds = [turn_seconds(work_of(config, config.model.shape, place(config))) for config in (kept, moved)]
    assert seconds[1] > seconds[0] > 0


def test_a_32b_model_colocated_on_8_h100_is_refused_with_the_parts_that_overflow() -> None:
    words = PAIRS, SHAPE_32B, "rollout.gpu_memory_utilization=0.85"
    with pytest.raises(ConfigError, match="a shared GPU does NOT fit") as caught:
        asked(*words)
    assert caught.value.field == "cluster.gpu" and "engine's weights 61." in caught.value.reason
    assert "optimizer_offload=true" in caught.value.remedy and "dry_run=true prints" in caught.value.remedy
    text = render(plan(asked(*words, "dry_run=true")))
    assert "DOES NOT FIT\n  a shared GPU does NOT fit" in text and "\n  sampling " in text


@pytest.mark.parametrize("words", ["", OFFLOAD, "rollout.enforce_eager=true"])
def test_a_7b_model_fits_and_no_role_is_checked_against_half_a_card(words: str) -> None:
    """Each by itself takes more than half of the card, and they take turns."""
    config = asked(PAIRS, words)
    assert sum(learner_memory(config, config.model.shape).values()) > 0.85 * 79.1 / 2
    assert not overflows(config, config.model.shape, tuple(actor_groups(config)))
    assert all(overflow.fits for overflow in shared_overflows(config, config.model.shape))


def test_a_budget_that_leaves_too_little_for_a_resting_rank_is_refused_with_both_ways_out() -> None:
    """What the engine takes is certain, and so are weights and moments."""
    with pytest.raises(ConfigError, match="in sampling") as caught:
        asked(PAIRS, "rollout.gpu_memory_utilization=0.87")
    assert "lower rollout.gpu_memory_utilization (now 0.87)" in caught.value.remedy
    assert "learner.optimizer_offload=true" in caught.value.remedy
    with pytest.raises(ConfigError, match="in sampling") as caught:
        asked(PAIRS, "rollout.gpu_memory_utilization=0.95")
    assert "optimizer_offload" not in caught.value.remedy, "that would not be enough"


def test_gpus_that_nobody_shares_have_no_such_moments() -> None:
    for words in ("recipe=care_grpo_7b", "recipe=care_grpo_tiny cluster.placement=colocated"):
        config = asked(words)
        assert not shared_moments(config, config.model.shape) and not plan(config).shared
        assert turn_seconds(work_of(config, config.model.shape, place(config))) == 0.0


def test_a_learner_over_nodes_is_advised_to_hold_the_model_on_each() -> None:
    two = PAIRS.replace("ranks=8", "ranks=16").replace("actors=8", "actors=16")
    (note,) = [note for note in plan(asked(two)).notes if "shard_ranks" in note]
    assert "learner.shard_ranks=8 holds it once on each node, which takes 2 times the memory" in note
    assert not [note for note in plan(asked(two, "learner.shard_ranks=8")).notes if "shard_ranks" in note]


@pytest.mark.parametrize("words", ["recipe=care_grpo_7b", "recipe=care_grpo_1_5b learner.lora.rank=0"])
def test_ways_out_of_one_shared_card_are_open_to_who_has_one(words: str) -> None:
    found = [
        overflow for overflow in plan(asked(words, "scale=1_gpu_24gb dry_run=true")).overflows if not overflow.fits
    ]
    assert len(found) > 1
    for overflow in found:
        ways = overflow.remedy.split(", or ")
        assert len(set(ways)) == len(ways) and any("cluster.gpu= names yours" in way for way in ways)
        assert not [way for way in ways if "tensor_parallel" in way or "learner.ranks" in way or "place=actors" in way]
        if "1_5b" in words:
            assert "write learner.lora.rank=16, which trains adapters alone" in ways, overflow.moment
