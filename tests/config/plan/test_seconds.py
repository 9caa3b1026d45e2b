"""Seconds of a plan against sums done by hand. Not covered: whether a GPU takes them."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.rates import (
    BF16_HEAD,
    COPY,
    DIGEST,
    FABRIC,
    FP32_SUSTAINED,
    LINK_EFFICIENCY,
    MFU_SCORE,
    MFU_TRAIN,
    NETWORK,
    PADDED,
    STORE,
    TO_GPU,
    TO_HOST,
    TO_HOST_ALONE,
)
from carerl.config.plan.seconds import (
    Work,
    assumptions,
    decode_step_seconds,
    generate_seconds,
    stage_seconds,
    work_of,
)
from carerl.config.plan.sync import planned_kind, sync_parts
from carerl.config.roles import place
from carerl.config.schema.cards import CARDS
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


def test_the_head_in_bfloat16_has_six_products_at_that_rate() -> None:
    """Log-probs, the same again, and two gradients of two terms each."""
    w = work()
    tokens = 1024 * 0.4 * 2048 / 8  # a rank's
    by_hand = 6 * 2 * HEAD_7B * tokens / (H100.bf16_tflops * 1e12 * BF16_HEAD)
    assert stages()["head"] == pytest.approx(by_hand)
    assert stages("cluster.gpu_tflops=494.5")["head"] == pytest.approx(2 * by_hand)
    assert stages("regularizer.estimator=full")["head"] == pytest.approx(8 / 6 * by_hand)
    assert stages("cluster.gpu=a100_80")["head"] == pytest.approx(by_hand * 989 / 312)
    assert w.rows == 1024


def test_the_head_in_float32_has_four_products_outside_of_tensor_cores() -> None:
    wide = ("learner.compute_dtype=float32",)
    tokens = 1024 * 0.4 * 2048 / 8
    one = 2 * HEAD_7B * tokens / (H100.fp32_tflops * 1e12 * FP32_SUSTAINED)
    assert stages(*wide)["head"] == pytest.approx(4 * one)
    assert stages(*wide, "cluster.gpu_tflops=100")["head"] == pytest.approx(4 * one), "it knows nothing of bfloat16"
    assert stages(*wide, "cluster.gpu=a100_80")["head"] == pytest.approx(4 * one * 67 / 19.5)
    # the reference has its own dtype: two of its products are in bfloat16
    narrow = one * H100.fp32_tflops * FP32_SUSTAINED / (H100.bf16_tflops * BF16_HEAD)
    assert stages(*wide, "regularizer.estimator=full")["head"] == pytest.approx(4 * one + 2 * narrow)
    both = stages(*wide, "reference.compute_dtype=float32", "regularizer.estimator=full")["head"]
    assert both == pytest.approx(6 * one)


def test_a_plan_tells_the_rate_that_its_head_is_assumed_to_reach() -> None:
    narrow, wide = (" ".join(assumptions(work(*words))) for words in ((), ("learner.compute_dtype=float32",)))
    assert f"{BF16_HEAD:.0%} of the bfloat16 rate in the head" in narrow and "float32 rate" not in narrow
    assert f"{FP32_SUSTAINED:.0%} of the float32 rate in the head" in wide and "bfloat16 rate" not in wide


def test_each_part_of_the_loss_whose_gradient_is_measured_is_one_more_update() -> None:
    """One of four minibatches. The penalty is on in the recipe, the entropy bonus and decisions are not."""
    often = ("algorithm.minibatches=4", "tracking.part_norms_every=1")
    base = stages(*often)
    assert stages()["part norms"] == 0
    assert base["part norms"] == pytest.approx(2 * (base["layers"] + base["head"]) / 4)
    assert stages(*often, "algorithm.epochs=2")["part norms"] == pytest.approx(base["part norms"])
    assert stages(*often, "algorithm.entropy_bonus=.01")["part norms"] == pytest.approx(1.5 * base["part norms"])
    assert stages(*often[:1], "tracking.part_norms_every=5")["part norms"] == pytest.approx(base["part norms"] / 5)


def test_the_layers_follow_the_bfloat16_rate() -> None:
    w = work()
    layers = w.parameters.matmul - HEAD_7B
    row = 0.4 * 2048 + 0.15 * 1024
    per_token = 2 * layers + 2 * 28 * 28 * 128 * row
    by_hand = 4 * PADDED * per_token * 1024 * row / 8 / (H100.bf16_tflops * 1e12 * MFU_TRAIN)
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


def parts(*words: str, size: str = "7b") -> dict[str, float]:
    w = work(*words, size=size)
    return sync_parts(w.config, w.shape, w.nodes)


def test_between_gpus_a_sync_gathers_broadcasts_and_loads() -> None:
    sent = 2 * count_parameters(work().shape).total / 1e9
    by_hand = {
        "gather": sent * 7 / 8 / (H100.link_gbps * LINK_EFFICIENCY),
        "broadcast": sent / (FABRIC * LINK_EFFICIENCY),  # the engines are on the second node
        "load and digest": 4 * sent / (H100.bandwidth_tbps * 1e3),
    }
    assert parts() == pytest.approx(by_hand)
    assert stages()["weight sync"] == pytest.approx(sum(by_hand.values()))
    assert sum(by_hand.values()) < 1
    one_node = parts(size="3b")
    small = 2 * count_parameters(work(size="3b").shape).total / 1e9
    assert one_node["broadcast"] == pytest.approx(small / (H100.link_gbps * LINK_EFFICIENCY))
    whole = parts("learner.backend=deepspeed", "learner.zero_stage=2")
    assert whole["gather"] == 0, "every rank has the weights"
    assert parts("learner.backend=deepspeed", "learner.zero_stage=3")["gather"] == parts()["gather"]


def test_through_the_host_a_sync_is_copied_in_and_out() -> None:
    sent = 2 * count_parameters(work().shape).total / 1e9
    shared = parts("sync.transfer=shm", size="3b")
    small = 2 * count_parameters(work(size="3b").shape).total / 1e9
    assert shared["to the host"] == pytest.approx(small / TO_HOST_ALONE)
    assert shared["load"] == pytest.approx(small / TO_GPU)
    stored = parts("sync.transfer=store")
    assert stored["store"] == pytest.approx(sent / STORE + sent / NETWORK)
    assert sum(stored.values()) > 10 * sum(parts().values())
    config = load(["recipe=care_grpo_tiny"])
    tiny = sync_parts(config, config.model.shape, place(config))
    assert planned_kind(config, place(config)) == "shm"
    bytes_ = 4 * count_parameters(config.model.shape).total / 1e9
    assert tiny == pytest.approx(
        {"gather": 0, "to the host": bytes_ / COPY, "digest": 2 * bytes_ / DIGEST, "load": bytes_ / COPY}
    )


def test_replicas_send_a_part_of_the_gradients_over_the_network_and_gather_within_a_node() -> None:
    """On l40s the links are the limit: 64 GB/s of PCIe within a node, and a GPU's share of the network is no more."""
    card = ("cluster.gpu=l40s", "cluster.gpu_memory_gib=80", "learner.micro_batch_rows=1")
    n = count_parameters(work().shape).total
    link, fabric = CARDS["l40s"].link_gbps, min(CARDS["l40s"].link_gbps, FABRIC)
    rows, updates = 64, 2
    one = updates * rows * 8 * n * 7 / 8 / (link * LINK_EFFICIENCY * 1e9)
    assert stages(*card)["layers"] == pytest.approx(one)
    near, far = rows * 8 * n * 3 / 4 / link, 2 * 4 * n / 4 / 2 / fabric
    assert stages(*card, "learner.shard_ranks=4")["layers"] == pytest.approx(
        updates * (near + far) / (LINK_EFFICIENCY * 1e9)
    )
    first = stages(*card, "learner.backend=deepspeed", "learner.zero_stage=1")["layers"]
    compute = stages("learner.backend=deepspeed")["layers"] * H100.bf16_tflops / CARDS["l40s"].bf16_tflops
    assert first == pytest.approx(max(compute, updates * (2 + 4) * n * 7 / 8 / (link * LINK_EFFICIENCY * 1e9)))


def test_a_reference_on_the_learners_ranks_takes_their_time_and_sends_nothing() -> None:
    w = work("reference.place=learner")
    layers = PADDED * w.layers_flop() * w.tokens / 8 / (H100.bf16_tflops * 1e12 * MFU_SCORE)
    head = 2 * HEAD_7B * w.rows * w.response / 8 / (H100.bf16_tflops * 1e12 * BF16_HEAD)
    inside = stages("reference.place=learner")["reference"]
    assert inside == pytest.approx(layers + head)
    assert inside < stages()["reference"], "eight ranks instead of two actors"
    assert stages("reference.place=learner", "regularizer.estimator=full")["reference"] == pytest.approx(layers)
    assert stages("reference.place=learner", "algorithm.epochs=2")["reference"] == pytest.approx(2 * inside)


def test_training_waits_for_the_copies_of_a_checkpoint_and_not_for_its_files() -> None:
    n = count_parameters(work().shape).total
    by_hand = (12 * n / 8 / TO_HOST + 2 * n / TO_HOST_ALONE) / 1e9
    assert stages()["checkpoint"] == pytest.approx(by_hand * 4 / 200)
    assert stages("learner.shard_ranks=4")["checkpoint"] > stages()["checkpoint"], "every replica copies"


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
