"""Main memory of a plan's nodes against sums done by hand. Not covered: what the operating system and Ray add."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.host_memory import NodeMemory, largest_hidden_gib
from carerl.config.plan.memory import GIB
from carerl.config.plan.pinned import pinned_growth
from carerl.config.plan.plan import plan
from carerl.config.plan.processes import ON_CPU, ON_GPU, WITH_TOKENIZER
from carerl.config.plan.render import render
from carerl.config.shapes import count_parameters


def nodes(*words: str) -> tuple[NodeMemory, ...]:
    return plan(load(list(words))).host


def test_7b_on_two_nodes_by_hand() -> None:
    config = load(["recipe=care_grpo_7b"])
    n = count_parameters(config.model.shape).total
    tensor = 152064 * 3584  # the largest one
    learners, engines = plan(config).host
    # 8 ranks, 8 graders of one process and 1 GiB; 6 engines and 2 references
    resting = 8 * ON_GPU + 8 * WITH_TOKENIZER + 8, 8 * ON_GPU
    assert (learners.moments["resting"], engines.moments["resting"]) == pytest.approx(resting)
    assert learners.moments["loading"] == pytest.approx(resting[0] + 2 * 2 * tensor / GIB)
    assert engines.moments["loading"] == pytest.approx(resting[1] + 2 * 2 * n / GIB)
    assert "weight sync" not in learners.moments, "it goes from GPU to GPU"
    # each rank's weights and moments, and the model in bfloat16 on the first one
    assert learners.moments["checkpoint"] == pytest.approx(resting[0] + (12 * n + 2 * n) / GIB)
    assert learners.peak == max(learners.moments.values())


def test_buckets_are_in_shared_memory_or_in_the_object_store() -> None:
    tensor = 152064 * 3584  # a bucket by itself: 1.02 GiB in bfloat16
    learners, engines = nodes("recipe=care_grpo_7b", "sync.transfer=store")
    grown = [node.moments["weight sync"] - node.moments["resting"] for node in (learners, engines)]
    assert grown == pytest.approx([3 * 2 * tensor / GIB, 2 * 2 * tensor / GIB])
    (one,) = nodes("recipe=care_grpo_3b", "sync.transfer=shm", "sync.bucket_mib=1024")
    assert one.moments["weight sync"] - one.moments["resting"] == pytest.approx(2)


def test_what_is_offloaded_rests_on_the_host() -> None:
    config = load(["recipe=care_grpo_7b"])
    n = count_parameters(config.model.shape).total
    plain = nodes("recipe=care_grpo_7b")[0].moments["resting"]
    growth = pinned_growth(config.model.shape, 4, 8)  # of weights and gradients
    for words, bytes_each in (
        (["learner.cpu_offload=true"], (growth * 8 + 8) * n / 8),
        (["learner.cpu_offload=true", "learner.backend=deepspeed"], 12 * n / 8),
        (["learner.cpu_offload=true", "learner.backend=deepspeed", "learner.zero_stage=3"], 14 * n / 8),
        # a layer's inputs of 8 rows of 3,072 tokens, and all that one layer keeps
        (["learner.activation_offload=true"], 2 * 8 * 3072 * (28 * 3584 + 6 * 3584 + 2 * 32 * 128 + 4 * 18944)),
    ):
        found = nodes("recipe=care_grpo_7b", *words)[0].moments["resting"] - plain
        assert found == pytest.approx(8 * bytes_each / GIB), words


def test_a_rank_gets_the_hidden_states_of_its_own_rows() -> None:
    config = load(["recipe=care_grpo_7b"])
    # 500 questions with 4 scored responses are more than a step's 1,024 rows
    sent = 2000 * 2048 * 3584 * 2 / GIB
    assert largest_hidden_gib(config, config.model.shape) == pytest.approx(sent)
    learners, engines = plan(config).host
    assert learners.moments["hidden states"] - learners.moments["resting"] == pytest.approx((1 + 1) * sent)
    assert engines.moments["hidden states"] - engines.moments["resting"] == pytest.approx((2 + 1) * sent)
    words = ["recipe=care_grpo_7b", "evaluation.at_start=false", "evaluation.at_end=false", "evaluation.every=0"]
    step = load(words)
    assert largest_hidden_gib(step, step.model.shape) == pytest.approx(sent * 1024 / 2000), "of its table"
    never = load([*words, "tracking.rollouts_every=0"])
    assert largest_hidden_gib(never, never.model.shape) == 0
    assert "hidden states" not in plan(never).host[0].moments
    assert "hidden states" not in nodes("recipe=care_grpo_7b", "reference.place=learner")[0].moments


def test_models_without_a_gpu_rest_on_the_host() -> None:
    (node,) = nodes("recipe=care_grpo_tiny")
    parts = plan(load(["recipe=care_grpo_tiny"])).memory
    models = sum(sum(part.values()) for part in parts.values())
    assert node.moments["resting"] == pytest.approx(sum(ON_CPU.values()) + 1 + models)
    assert "weight sync" not in nodes("recipe=base_tiny")[0].moments
    assert nodes("recipe=base_bytes") == ()


def test_the_plan_prints_a_row_a_node() -> None:
    text = render(plan(load(["recipe=care_dapo_7b"])))
    block = text.split("Main memory of each node")[1].split("\n\n")[0]
    assert [line.split()[:2] for line in block.splitlines()[2:4]] == [["node", "0"], ["node", "1"]]
    assert (
        "a checkpoint takes 107 GB on disk" in text
        and "a weight sync brings 15.2 GB to each engine, from GPU to GPU (nccl)" in text
    )
