"""The seconds of anchors, traces and gains in a plan: against sums by hand, and what each setting changes."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.beside import beside_seconds
from carerl.config.plan.memory import learner_memory
from carerl.config.plan.plan import plan
from carerl.config.plan.rates import BF16_HEAD, MFU_TRAIN, PADDED
from carerl.config.plan.seconds import (
    Work,
    layers_compute_seconds,
    score_seconds,
    stage_seconds,
    training_head_seconds,
    work_of,
)
from carerl.config.roles import place
from carerl.config.schema.cards import CARDS
from carerl.config.shapes import count_parameters

HEAD_7B = 152064 * 3584
RATE = CARDS["h100"].bf16_tflops * 1e12


def stages(*words: str) -> dict[str, float]:
    config = load(["recipe=anchor_grpo_7b", *words])
    return beside_seconds(work_of(config, config.model.shape, place(config)))


def test_layers_and_head_are_those_of_the_anchors_own_tokens() -> None:
    config = load(["recipe=anchor_grpo_7b"])
    work = work_of(config, config.model.shape, place(config))
    found, shape = stages(), work.shape
    length = work.prompt + 64
    attention = 2 * shape.num_layers * shape.num_heads * shape.head_dim * length
    flop = 64 * length * (2 * (count_parameters(shape).matmul - HEAD_7B) + attention)
    assert found["anchors' layers"] == pytest.approx(4 * PADDED * flop / 8 / (RATE * MFU_TRAIN))
    # log-probs twice and two gradients of two terms, and the reference's head twice
    assert found["anchors' head"] == pytest.approx(8 * 2 * HEAD_7B * 64 * 64 / 8 / (RATE * BF16_HEAD))


def test_what_they_cost_follows_their_settings() -> None:
    base = stages()
    twice = stages("anchor.per_step=128")
    for name in ("anchors' layers", "anchors' head", "anchors' reference"):
        assert twice[name] == pytest.approx(2 * base[name])
    sampled = stages("anchor.sampler=policy")
    assert sampled["anchors' responses"] > 5 * base["anchors' responses"], "64 at a time fill no engine"
    assert sampled["anchors' layers"] == base["anchors' layers"]
    entropy = stages("anchor.divergence=ce")
    assert entropy["anchors' reference"] == 0 and entropy["anchors' head"] == pytest.approx(
        base["anchors' head"] * 6 / 8
    )
    assert stages("algorithm.epochs=2")["anchors' layers"] == pytest.approx(2 * base["anchors' layers"])


def test_exact_anchors_ask_the_reference_for_their_own_rows_and_need_more_of_the_head() -> None:
    def planned(*words: str) -> tuple[dict[str, float], float]:
        config = load(["recipe=anchor_grpo_7b", *words])
        work = work_of(config, config.model.shape, place(config))
        return stage_seconds(work), learner_memory(config, config.model.shape)["head"]

    exact, entropy = planned(), planned("anchor.divergence=ce")
    assert exact[0]["reference"] == pytest.approx(entropy[0]["reference"]), "every tenth step, for a report"
    assert exact[1] > 1.5 * entropy[1], "seven tables of a chunk instead of four"
    assert planned("anchor.divergence=js")[1] > 1.5 * exact[1]
    assert planned("anchor.weight=0") == planned("anchor.name=none", "anchor.source=")


def test_a_plan_counts_them_beside_everything_else_and_says_what_it_assumes() -> None:
    config = load(["recipe=anchor_grpo_7b"])
    found = plan(config).compute
    assert found is not None
    work = work_of(config, config.model.shape, place(config))
    assert sum(found.stages.values()) == pytest.approx(sum(stage_seconds(work).values()) + sum(stages().values()))
    assert any("anchors' responses of full length, 64 tokens" in line for line in found.assumptions)
    without = plan(load(["recipe=none_grpo_7b"])).compute
    assert without is not None
    assert not any("anchors" in text for text in (*without.stages, *without.assumptions))


def test_traces_and_scores_are_counted_where_a_run_has_them() -> None:
    def found(recipe: str, *words: str) -> tuple[Work, dict[str, float]]:
        config = load([f"recipe={recipe}", *words])
        work = work_of(config, config.model.shape, place(config))
        return work, beside_seconds(work)

    work, rlif = found("rlif_7b", "reward.name=certainty")
    assert rlif == {"certainty": pytest.approx(score_seconds(work, 1.0))}
    work, mixture = found("mixture_7b", "reward.name=certainty")
    share = work.config.distillation.per_step / work.rows
    assert mixture["traces' layers"] == pytest.approx(share * layers_compute_seconds(work))
    assert mixture["traces' head"] == pytest.approx(share * training_head_seconds(work, 0.0))
    _, hytuning = found("hytuning_7b", "reward.name=certainty")
    _, fewer = found("hytuning_7b", "reward.name=certainty", "distillation.supports=4")
    assert hytuning["gains"] == pytest.approx(2 * fewer["gains"]) and set(hytuning) == {*mixture, "gains"}
    assert hytuning["gains"] > 2 * hytuning["certainty"], "eight answers after half of each response"
    assert found("rd_7b")[1] == {} and found("none_grpo_7b", "reward.name=majority")[1] == {}
