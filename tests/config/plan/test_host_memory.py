"""Main memory of a plan's nodes against sums done by hand. Not covered: what the operating system and Ray add."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.host_memory import PROCESS_GIB, NodeMemory, largest_hidden_gib
from carerl.config.plan.memory import GIB
from carerl.config.plan.plan import plan
from carerl.config.plan.render import render
from carerl.config.shapes import count_parameters


def nodes(*words: str) -> tuple[NodeMemory, ...]:
    return plan(load(list(words))).host


def test_7b_on_two_nodes_by_hand() -> None:
    config = load(["recipe=care_grpo_7b"])
    n = count_parameters(config.model.shape).total
    tensor = 152064 * 3584  # the largest one, a bucket by itself
    learners, engines = plan(config).host
    # 8 ranks, 8 graders of one process and 1 GiB; 6 engines and 2 references
    resting = 16 * PROCESS_GIB + 8, 8 * PROCESS_GIB
    assert (learners.moments["resting"], engines.moments["resting"]) == pytest.approx(resting)
    assert learners.moments["loading"] == pytest.approx(resting[0] + 8 * 4 * n / GIB)
    assert engines.moments["loading"] == pytest.approx(resting[1] + 2 * 2 * n / GIB)
    # ranks: a float32 tensor and its bucket; the first one's pickled bucket; all buckets in the object store
    ranks = 8 * (4 + 2) * tensor + 2 * tensor + 2 * n
    assert learners.moments["weight sync"] == pytest.approx(resting[0] + ranks / GIB)
    # engines: all buckets in the store, and each engine's own copy with one tensor hashed
    assert engines.moments["weight sync"] == pytest.approx(resting[1] + (2 * n + 6 * (2 * n + 2 * tensor)) / GIB)
    assert learners.moments["checkpoint"] == pytest.approx(resting[0] + (8 * 4 * tensor + 2 * n) / GIB)
    assert learners.peak == max(learners.moments.values())


def test_hidden_states_are_whole_on_every_rank() -> None:
    config = load(["recipe=care_grpo_7b"])
    # 500 questions with 4 scored responses are more than a step's 1,024 rows
    sent = 2000 * 2048 * 3584 * 2 / GIB
    assert largest_hidden_gib(config, config.model.shape) == pytest.approx(sent)
    learners, engines = plan(config).host
    assert learners.moments["hidden states"] - learners.moments["resting"] == pytest.approx((8 + 1) * sent)
    assert engines.moments["hidden states"] - engines.moments["resting"] == pytest.approx((2 + 1) * sent)
    words = ["recipe=care_grpo_7b", "evaluation.at_start=false", "evaluation.at_end=false", "evaluation.every=0"]
    step = load(words)
    assert largest_hidden_gib(step, step.model.shape) == pytest.approx(sent * 1024 / 2000), "of its table"
    never = load([*words, "tracking.rollouts_every=0"])
    assert largest_hidden_gib(never, never.model.shape) == 0
    assert "hidden states" not in plan(never).host[0].moments


def test_more_engines_on_a_node_need_more_of_it_and_the_store_one_copy() -> None:
    three, one = nodes("recipe=care_grpo_3b")[0], nodes("recipe=care_grpo_3b", "rollout.actors=1")[0]
    config = load(["recipe=care_grpo_3b"])
    each = 2 * count_parameters(config.model.shape).total + 2 * 151936 * 2048
    grown = three.moments["weight sync"] - one.moments["weight sync"]
    assert grown == pytest.approx(2 * (each / GIB + PROCESS_GIB))


def test_models_without_a_gpu_rest_on_the_host() -> None:
    (node,) = nodes("recipe=care_grpo_tiny")
    parts = plan(load(["recipe=care_grpo_tiny"])).memory
    models = sum(sum(part.values()) for part in parts.values())
    assert node.moments["resting"] == pytest.approx(4 * PROCESS_GIB + 1 + models)
    assert "weight sync" not in nodes("recipe=base_tiny")[0].moments
    assert nodes("recipe=base_bytes") == ()


def test_the_plan_prints_a_row_a_node() -> None:
    text = render(plan(load(["recipe=care_dapo_7b"])))
    block = text.split("Main memory of each node")[1].split("\n\n")[0]
    assert [line.split()[:2] for line in block.splitlines()[2:4]] == [["node", "0"], ["node", "1"]]
    assert "a checkpoint takes 107 GB on disk" in text and "a weight sync sends 15.2 GB" in text
