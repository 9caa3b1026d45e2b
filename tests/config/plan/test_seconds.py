"""Seconds of a plan against sums done by hand. Not covered: whether a GPU takes them."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.card_table import CARDS
from carerl.config.plan.seconds import (
    CRC32,
    FP32_SUSTAINED,
    LINK_EFFICIENCY,
    MFU_TRAIN,
    PADDED_SORTED,
    PICKLE,
    STORE,
    TOBYTES,
    UNPICKLE,
    Work,
    decode_step_seconds,
    generate_seconds,
    stage_seconds,
    sync_parts,
    work_of,
)
from carerl.config.roles import place
from carerl.config.shapes import count_parameters

H100 = CARDS["h100"]
HEAD_7B = 152064 * 3584


def work(*words: str, size: str = "7b") -> Work:
    config = load([f"recipe=care_grpo_{size}", *words])
    return work_of(config, config.model.shape, place(config))


def stages(*words: str, size: str = "7b") -> dict[str, float]:
    return stage_seconds(work(*words, size=size))


def test_a_decode_step_is_at_least_the_weights_read_once() -> None:
    matmul = count_parameters(work().shape).matmul
    assert decode_step_seconds(work(), 1) > 2 * matmul / (H100.bandwidth_tbps * 1e12)
    halved = decode_step_seconds(work("cluster.gpu_bandwidth_tbps=1.675"), 1) / decode_step_seconds(work(), 1)
    assert 1.5 < halved < 2, "the engine's own Python stays"


def test_generation_lasts_as_long_as_the_longest_response_and_what_waits_before_it() -> None:
    w = work()
    # 1,024 rows on six engines: 171 each, all decoded at one time
    assert generate_seconds(w, w.rows) == pytest.approx(2048 * decode_step_seconds(w, 171 * w.response / 2048))
    few = work("rollout.max_batch_rows=64")
    assert generate_seconds(few, few.rows) > generate_seconds(w, w.rows) + 500 * decode_step_seconds(w, 1)


def test_the_head_is_computed_in_float32_and_follows_that_rate() -> None:
    w = work()
    tokens = 1024 * 0.4 * 2048 / 8  # a rank's
    by_hand = 4 * 2 * HEAD_7B * tokens / (H100.fp32_tflops * 1e12 * FP32_SUSTAINED)
    assert stages()["head"] == pytest.approx(by_hand)
    assert stages("cluster.gpu_tflops=100")["head"] == pytest.approx(by_hand), "it knows nothing of bfloat16"
    assert stages("regularizer.estimator=full")["head"] == pytest.approx(6 / 4 * by_hand)
    assert stages("cluster.gpu=a100_80")["head"] == pytest.approx(by_hand * 67 / 19.5)
    assert w.rows == 1024


def test_the_layers_follow_the_bfloat16_rate() -> None:
    w = work()
    layers = w.parameters.matmul - HEAD_7B
    row = 0.4 * 2048 + 0.15 * 1024
    per_token = 2 * layers + 2 * 28 * 28 * 128 * row
    by_hand = 4 * PADDED_SORTED * per_token * 1024 * row / 8 / (H100.bf16_tflops * 1e12 * MFU_TRAIN)
    assert stages()["layers"] == pytest.approx(by_hand)
    assert stages("cluster.gpu_tflops=494.5")["layers"] == pytest.approx(2 * by_hand)
    assert stages("learner.gradient_checkpointing=false")["layers"] == pytest.approx(3 / 4 * by_hand)


def test_without_nvlink_the_learner_waits_for_its_links() -> None:
    n = count_parameters(work().shape).total
    # 16 micro-batches, each gathers twice in bfloat16 and reduces in float32, seven eighths of it from others
    by_hand = 16 * (2 * 2 + 4) * n * 7 / 8 / (CARDS["l40s"].link_gbps * LINK_EFFICIENCY * 1e9)
    assert stages("cluster.gpu=l40s", "cluster.gpu_memory_gib=80")["layers"] == pytest.approx(max(
        by_hand, stages()["layers"] * H100.bf16_tflops / CARDS["l40s"].bf16_tflops
    ))  # fmt: skip
    larger = stages("cluster.gpu=l40s", "cluster.gpu_memory_gib=80", "learner.micro_batch_rows=1")["layers"]
    assert larger == pytest.approx(8 * by_hand)


def test_only_minibatches_after_the_first_need_old_log_probs() -> None:
    assert stages("algorithm.minibatches=1")["old log-probs"] == 0
    two, four = (stages(f"algorithm.minibatches={n}")["old log-probs"] for n in (2, 4))
    assert four == pytest.approx(two * (3 / 4) / (1 / 2))


def test_a_sync_sends_all_weights_through_host_memory() -> None:
    sent = 2 * count_parameters(work().shape).total / 1e9
    parts = sync_parts(work())
    assert parts["pickle"] == pytest.approx(sent / PICKLE + sent / STORE)
    assert parts["unpickle"] == pytest.approx(sent / UNPICKLE)
    assert parts["checksum"] == parts["checksum again"] == pytest.approx(sent / TOBYTES + sent / CRC32)
    assert parts["network"] > 0, "the engines are on the second node"
    one_node = sync_parts(work(size="3b"))
    assert one_node["network"] == 0 and sum(one_node.values()) < sum(parts.values()) / 2
    assert sync_parts(work("model.dtype=float32"))["cast"] == 0
    assert sync_parts(work("model.dtype=float32"))["pickle"] == pytest.approx(2 * parts["pickle"])


def test_the_reference_is_asked_as_often_as_the_loop_asks_it() -> None:
    config = load(["recipe=none_grpo_7b"])
    without = stage_seconds(work_of(config, config.model.shape, place(config)))
    # every tenth step, and then its hidden states
    assert 0 < without["reference"] < stages("regularizer.estimator=full")["reference"] / 9
    assert stages("reference.actors=4")["reference"] == pytest.approx(stages()["reference"] / 2)
    config = load(["recipe=none_grpo_7b", "reference.report_every=0"])
    never = stage_seconds(work_of(config, config.model.shape, place(config)))
    assert never["reference"] == never["rollout table"] == 0


def test_what_is_done_now_and_then_is_spread_over_the_steps() -> None:
    base = stages()
    assert stages("sync.probe_every=20")["parity probe"] == pytest.approx(base["parity probe"] / 2)
    assert stages("sync.probe_every=0")["parity probe"] == 0
    assert stages("tracking.rollouts_every=0")["rollout table"] == 0
    assert stages("tracking.rollouts_every=20")["rollout table"] == pytest.approx(base["rollout table"] / 2)
    assert stages("checkpoint.every=100")["checkpoint"] == pytest.approx(base["checkpoint"] / 2)
    assert stages("checkpoint.every=0")["checkpoint"] == pytest.approx(base["checkpoint"] / 4), "one, at step 200"
