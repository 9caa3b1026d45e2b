"""Measured peaks beside a plan: what is said, and what is warned of. Peaks of real runs: tests/e2e/test_resident.py."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.config.plan.cards import card_of
from carerl.config.plan.memory import CONTEXT_GIB, actor_memory
from carerl.config.plan.peaks import FULL, NEAR, SLACK_GIB, Compared, Peak, compared
from carerl.config.plan.resident import resident_parts
from carerl.config.plan.shared import GRAPHS_GIB
from carerl.config.roles import ROLES
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.metrics.table import find_metric

CARD = 79.1  # GiB
TINY, SEVEN = load(["recipe=care_grpo_tiny"]), load(["recipe=care_grpo_7b"])


def resident(config: RunConfig, role: str) -> float:
    return sum(resident_parts(config, effective_shape(config)[0], role).values())


def on_card(config: RunConfig, role: str) -> float:
    parts = actor_memory(config, effective_shape(config)[0], (ROLES[role](config),))[role]
    return sum(parts.values())


def test_of_a_role_the_largest_actor_counts_and_every_metric_is_declared() -> None:
    found = compared(
        SEVEN,
        {"learner 0": Peak(9.5, 20.0, 21.0, CARD), "learner 10": Peak(8.0, 30.0, 34.0, CARD), "grading 0": Peak(1)},
    )
    assert found.metrics == {
        "system/resident_learner_gib": 9.5,
        "system/allocated_learner_gib": 30.0,
        "system/fragmentation_learner_gib": 4.0,
        "system/resident_grading_gib": 1.0,
    }
    assert all(find_metric(name) is not None for name in found.metrics)
    host, card = found.lines
    assert f"learner 9.50 ({resident(SEVEN, 'learner'):.2f})" in host and "grading 1.00" in host
    assert f"learner 30.0 ({on_card(SEVEN, 'learner'):.1f}), and 4.0 of fragmentation" in card


@pytest.mark.parametrize("role", ROLES)
def test_an_actor_above_its_plan_is_warned_of_and_one_within_it_is_not(role: str) -> None:
    judged = [load(["recipe=caspo_7b"])]
    for config in judged if role == "judge" else [TINY, load(["recipe=care_grpo_3b"])]:  # of TINY libraries are most
        planned = resident(config, role)
        limit = max((1 + NEAR) * planned, planned + SLACK_GIB)
        assert compared(config, {f"{role} 0": Peak(limit * 0.99)}).warnings == ()
        (warning,) = compared(config, {f"{role} 0": Peak(limit * 1.01)}).warnings
        assert warning.startswith(f"{role}: ") and f"the plan says {planned:.2f}" in warning


def card_warnings(role: str, allocated: float, reserved: float, config: RunConfig = SEVEN) -> Compared:
    return compared(config, {f"{role} 0": Peak(0.1, allocated, reserved, CARD)})


def test_a_card_that_is_nearly_full_is_warned_of_with_what_to_lower() -> None:
    within = FULL * CARD - CONTEXT_GIB
    assert card_warnings("learner", 20.0, within - 0.1).warnings == ()
    (warning,) = card_warnings("learner", 20.0, within + 0.1).warnings
    assert f"{within - 19.9:.1f} of them by fragmentation" in warning and "lower learner.micro_batch_rows" in warning
    assert card_warnings("rollout", 20.0, within + 0.1).warnings == (), "vLLM takes its share whatever happens"
    planned = on_card(SEVEN, "learner")
    assert len(card_warnings("learner", planned + 0.1, planned + 0.2).warnings) == 1


@pytest.mark.parametrize("words", ["", "rollout.enforce_eager=true"])
def test_of_a_shared_card_a_rank_has_all_but_what_the_sleeping_engine_keeps(words: str) -> None:
    """Two contexts and the engine's graphs are beside it. Half of the card, its share by Ray, is no limit."""
    config = load(["recipe=care_grpo_7b", "scale=8_gpus_colocated", *words.split()])
    graphs = 0.0 if words else GRAPHS_GIB
    within = FULL * CARD - 2 * CONTEXT_GIB - graphs
    assert within > CARD / 2 and card_warnings("learner", 20.0, within - 0.1, config).warnings == ()
    (warning,) = card_warnings("learner", 20.0, within + 0.1, config).warnings
    assert f"of {CARD:.1f} GiB of its GPU are taken, {CONTEXT_GIB + graphs:.1f} of them by the actor that" in warning
    half = load(["recipe=care_grpo_3b", "reference.gpus_per_actor=0.5"])
    (warning,) = card_warnings("reference", 1.0, 0.95 * CARD / 2, half).warnings
    assert f"of {CARD / 2:.1f} GiB of its GPU" in warning, "a share that nobody takes turns with is a limit"


def test_room_is_that_of_the_card_that_is_there_and_not_of_the_planned_one() -> None:
    config = load(["recipe=care_grpo_1_5b", "scale=1_gpu_24gb"])
    assert card_of(config).memory_gib < 23.6
    taken = FULL * 22.5 - 2 * CONTEXT_GIB - GRAPHS_GIB
    assert not compared(config, {"learner 0": Peak(0.1, 1.0, taken, 23.6)}).warnings
    assert "of 22.0 GiB" in compared(config, {"learner 0": Peak(0.1, 1.0, taken, 22.0)}).warnings[0]
