"""Cards: figures, what fits them, what is refused.

Not covered: whether a run that fits on paper fits on a GPU.
"""

from __future__ import annotations

import pytest

from carerl import run
from carerl.config.load import load
from carerl.config.plan.cards import card_of
from carerl.config.plan.memory import GIB, Overflow
from carerl.config.plan.plan import Plan, plan
from carerl.config.plan.render import render
from carerl.config.schema.cards import CARDS
from carerl.config.shapes import count_parameters
from carerl.errors import ConfigError

SEVEN = "recipe=care_grpo_7b"
# Qwen2.5-14B and 32B, as on their cards
FOURTEEN = [
    SEVEN, "model.shape.num_layers=48", "model.shape.hidden_size=5120", "model.shape.intermediate_size=13824",
    "model.shape.num_heads=40", "model.shape.num_kv_heads=8",
]  # fmt: skip
THIRTY_TWO = [*FOURTEEN, "model.shape.num_layers=64", "model.shape.intermediate_size=27648"]
ONE_NODE = ["learner.ranks=4", "rollout.actors=3", "reference.actors=1"]


def planned(*words: str) -> Plan:
    return plan(load([*words, "dry_run=true"]))


def found(result: Plan, role: str, moment: str) -> Overflow:
    (overflow,) = [o for o in result.overflows if (o.role, o.moment) == (role, moment)]
    return overflow


@pytest.mark.parametrize(
    ("name", "sparse"),  # the rate that is printed largest, with sparsity
    [("h100", 1979), ("h100_pcie", 1513), ("h200", 1979), ("b200", 4500), ("a100_80", 624), ("a100_40", 624),
     ("l40s", 733), ("l4", 242), ("a10", 250), ("rtx4090", 330.3), ("rtx5090", 419), ("rtx3090", 142)],
)  # fmt: skip
def test_rates_are_dense(name: str, sparse: float) -> None:
    assert CARDS[name].bf16_tflops == pytest.approx(sparse / 2, rel=0.015)


@pytest.mark.parametrize("name", CARDS)
def test_every_card_gives_a_plan_and_its_figures_are_plausible(name: str) -> None:
    card = CARDS[name]
    assert 10 < card.memory_gib < 200 and 0.1 < card.bandwidth_tbps < 10 and 10 < card.link_gbps < 1000
    assert card.bf16_tflops == 0 or card.bf16_tflops > 1.9 * card.fp32_tflops
    dtypes = [] if card.bf16_tflops else [
        "model.dtype=float32", "learner.compute_dtype=float32", "reference.compute_dtype=float32"
    ]  # fmt: skip
    result = planned("recipe=care_grpo_3b", f"cluster.gpu={name}", *dtypes)
    assert f"{name}: {card.memory_gib:g} GiB" in render(result)
    assert result.compute is not None and 10 < result.compute.step < 100_000


def test_single_figures_override_the_card() -> None:
    config = load([SEVEN, "cluster.gpu=h200", "cluster.gpu_tflops=790", "cluster.gpu_bandwidth_tbps=4.3"])
    card = card_of(config)
    assert (card.bf16_tflops, card.bandwidth_tbps, card.memory_gib) == (790, 4.3, CARDS["h200"].memory_gib)
    assert "gpu_tflops, gpu_bandwidth_tbps as given" in plan(config).card
    assert card_of(load([SEVEN])) == CARDS["h100"]
    own = planned(SEVEN, "cluster.gpu_memory_gib=24")
    assert not own.fits and found(own, "learner", "a step").room_gib == 24


def test_an_unknown_card_gets_the_nearest_name_and_the_list() -> None:
    with pytest.raises(ConfigError, match=r"did you mean cluster.gpu=rtx4090") as caught:
        load([SEVEN, "cluster.gpu=rtx4O90"])
    assert caught.value.field == "cluster.gpu" and all(name in caught.value.reason for name in CARDS)


def test_a_card_without_bfloat16_is_refused_where_it_would_need_it() -> None:
    with pytest.raises(ConfigError, match=r"no bfloat16, which model.dtype and learner.compute_dtype and ref"):
        load(["recipe=care_grpo_3b", "cluster.gpu=v100_32", "dry_run=true"])
    with pytest.raises(ConfigError, match=r"which reference.compute_dtype asks for") as caught:
        words = ["model.dtype=float32", "learner.compute_dtype=float32"]
        load(["recipe=care_grpo_3b", "cluster.gpu=v100_32", "dry_run=true", *words])
    assert "write reference.compute_dtype=float32" in caught.value.remedy
    load(["recipe=care_grpo_tiny", "cluster.gpu=t4", "model.dtype=bfloat16"])  # on the CPU


def test_the_shipped_recipes_fit_the_card_that_is_assumed() -> None:
    for size in ("3b", "7b"):
        for words in ([], ["regularizer.estimator=full"]):
            assert planned(f"recipe=care_grpo_{size}", *words).overflows == ()


def test_32b_loads_on_80_gb_and_trains_on_more_ranks_or_with_its_optimizer_on_the_host() -> None:
    result = planned(*THIRTY_TWO, "cluster.gpu=h100")
    n = count_parameters(result.shape).total
    assert 4 * n / GIB == pytest.approx(122, abs=1), "whole in float32"
    tensor = 5120 * 152064  # the largest: two of them are there as they come, in bfloat16
    assert result.loading["learner"] == pytest.approx((4 * n / 8 + 2 * 2 * tensor) / GIB)
    step = found(result, "learner", "a step")
    assert not step.fits and not step.certain and "learner.cpu_offload=true" in step.remedy
    assert [o.moment for o in result.overflows if o.role == "learner"] == ["a step"]
    assert render(result).splitlines()[2] == "DOES NOT FIT"
    assert "paper only" in str(found(planned(*THIRTY_TWO, "cluster.gpu=h100", "learner.ranks=16"), "learner", "a step"))
    away = planned(*THIRTY_TWO, "cluster.gpu=h100", "learner.cpu_offload=true")
    assert not any(o.role == "learner" for o in away.overflows)


def test_zero_keeps_what_its_stage_does_not_share() -> None:
    """On eight ranks in bfloat16: whole weights in 2 bytes, and in stage 1 whole gradients in 4 and 2."""
    n = count_parameters(planned(SEVEN).shape).total

    def state(*words: str) -> list[float]:
        memory = planned(SEVEN, "learner.backend=deepspeed", *words).memory["learner"]
        return [memory[name] * GIB / n for name in ("weights", "gradients", "optimizer")]

    assert state("learner.zero_stage=1") == pytest.approx([2, 4 + 2, 12 / 8])
    assert state("learner.zero_stage=1", "learner.compute_dtype=float32") == pytest.approx([4, 4, 12 / 8])
    assert state("learner.zero_stage=2") == pytest.approx([2, 4 / 8, 12 / 8])
    assert state("learner.zero_stage=3") == pytest.approx([2 / 8, 4 / 8, 12 / 8])
    assert state("learner.zero_stage=3", "learner.cpu_offload=true") == pytest.approx([0, 4 / 8, 0])
    islands = planned(SEVEN, "learner.shard_ranks=4").memory["learner"]
    assert sum(islands[name] for name in ("weights", "gradients", "optimizer")) * GIB == pytest.approx(16 * n / 4)


def test_a_reference_on_the_ranks_costs_them_its_part_and_one_layer() -> None:
    apart, inside = (planned(SEVEN, *words) for words in ([], ["reference.place=learner"]))
    n = count_parameters(apart.shape).total
    embedding = 152064 * 3584  # not the head, and larger than a layer: whole while it is used
    assert inside.memory["learner"]["reference"] * GIB == pytest.approx(2 * (n / 8 + embedding))
    assert "reference" not in inside.memory and apart.memory["learner"]["reference"] == 0
    assert inside.memory["learner"]["head matrices"] == apart.memory["learner"]["head matrices"]


def test_14b_does_not_fit_one_node_of_80_gb_and_two_with_few_rows_at_a_time() -> None:
    one = found(planned(*FOURTEEN, *ONE_NODE, "cluster.gpu=h100"), "learner", "a step")
    assert not one.fits and not one.certain and "optimizer" in one.largest
    # weights, gradients and both moments over four ranks
    assert one.needed_gib > 16 * count_parameters(planned(*FOURTEEN).shape).total / 4 / GIB
    two = found(planned(*FOURTEEN, "learner.micro_batch_rows=12", "cluster.gpu=a100_80"), "learner", "a step")
    assert two.fits and "fits on paper only" in str(two) and "lower learner.micro_batch_rows" in two.remedy
    assert planned(*FOURTEEN, "learner.micro_batch_rows=8", "cluster.gpu=a100_80").overflows == ()
    assert planned(*FOURTEEN, "cluster.gpu=h200").overflows == ()


def test_an_engine_needs_its_weights_and_one_sequence_within_its_budget() -> None:
    result = planned(SEVEN, "cluster.gpu=l40s", "rollout.gpu_memory_utilization=0.3")
    engine = found(result, "rollout", "a step")
    assert engine.room_gib == pytest.approx(0.3 * CARDS["l40s"].memory_gib) and engine.certain
    assert "rollout.tensor_parallel=2 rollout.gpus_per_actor=2" in engine.remedy
    words = ["rollout.tensor_parallel=2", "rollout.gpus_per_actor=2", "rollout.gpu_memory_utilization=0.5"]
    assert not any(o.role == "rollout" for o in planned(SEVEN, "cluster.gpu=l40s", *words).overflows)


def test_a_dry_run_that_does_not_fit_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([*THIRTY_TWO, "dry_run=true"]) == 2
    assert "DOES NOT FIT" in capsys.readouterr().out
    assert run.main([SEVEN, "dry_run=true"]) == 0
    assert "DOES NOT FIT" not in capsys.readouterr().out


def test_a_run_is_refused_only_where_the_named_card_cannot_hold_it_for_certain() -> None:
    whole = ["learner.backend=deepspeed", "learner.zero_stage=1"]
    with pytest.raises(
        ConfigError, match=r"learner does NOT fit: .* in loading \(its part and two tensors 262"
    ) as caught:
        load([*THIRTY_TWO, "cluster.gpu=h100", *whole])
    assert caught.value.field == "cluster.gpu" and "dry_run=true" in caught.value.remedy
    load([*THIRTY_TWO, *whole])  # nobody said which card it is
    load([*FOURTEEN, *ONE_NODE, "cluster.gpu=h100"])  # beyond it by an estimate only
