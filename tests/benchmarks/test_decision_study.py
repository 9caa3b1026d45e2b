"""The bars of the study of the decision token: met by rows as they should be, missed by each that is off."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.benchmarks.decision_study import (
    ON_ALL_SEEDS,
    ON_SOME,
    OPTIONS,
    PREDICTED,
    SUITE,
    Study,
    arm_of,
    bars,
    comparisons,
    curves,
    forecast,
    predicted,
    table,
)

SEEDS = range(3000, 3008)
SCALERS = ("none", "temperature", "isotonic")


def row(arm: str, seed: int) -> dict[str, Any]:
    """A row as the theory wants it, with some spread over seeds."""
    wobble = 1e-3 * (seed % 4)
    shared = {"task": {"gold_noise": 0.05}, "steps": 400}
    made: dict[str, Any] = {"arm": arm, "seed": seed, "commit": "c", "shared": shared, "own": {"arm": arm}, "final": {}}
    study = Study([made], [seed])
    curve = predicted(study, arm) if arm in PREDICTED else [1.0] * OPTIONS
    ece = 0.22 if arm.startswith(("GRPO", "RLOO")) else 0.01
    of_suite = {f"calibration/{SUITE}/eta_{n}": p + wobble for n, p in enumerate(curve)}
    of_suite |= {f"calibration/{SUITE}/decision_eta_{n}": p + wobble for n, p in enumerate(curve)}
    of_suite |= {
        "eval/accuracy": 0.9,
        f"eval/{SUITE}/argmax_accuracy": 0.99 - wobble * (arm == "paper"),
        f"eval/{SUITE}/right_traces": 0.99,
        f"calibration/{SUITE}/answer_prob_ece_count": ece + 2 * wobble * (arm == "paper"),
        f"calibration/{SUITE}/right_trace_ece": ece,
        f"calibration/{SUITE}/right_trace_gap": ece,
        f"calibration/{SUITE}/answer_prob_brier": 0.2,
        f"eval/{SUITE}/swap_flips": 0.99,
        f"eval/{SUITE}/swap_probability": 0.99,
    }
    posthoc = {name: {"ece_count": ece, "brier": 0.2, "gap": 0.1 + wobble} for name in SCALERS}
    return made | {"final": of_suite, "posthoc": posthoc}


@pytest.fixture
def every() -> list[dict[str, Any]]:
    return [row(arm, seed) for arm in ON_ALL_SEEDS for seed in SEEDS] + [
        row(arm, seed) for arm in ON_SOME for seed in SEEDS[:4]
    ]


def missed(found: list[dict[str, Any]]) -> list[str]:
    return [asked for asked, _, met in bars(Study(found, SEEDS)) if not met]


def test_rows_as_the_theory_has_them_meet_every_bar(every: list[dict[str, Any]]) -> None:
    assert missed(every) == []
    study = Study(every, SEEDS)
    assert len(list(table(study))) == 2 + 10 + 1 + 2 + 30 and len(list(curves(study))) == 10 + 5
    assert list(comparisons(study)) and len(list(forecast(study))) == 2
    development = [{**one, "seed": one["seed"] - 2900} for one in every]
    assert missed([*every, *development]) == [], "rows of other seeds are not looked at"


@pytest.mark.parametrize(
    ("arm", "name", "value", "bar"),
    [
        ("GRPO", f"calibration/{SUITE}/decision_eta_7", 0.9, "GRPO: mean p(decision)"),
        ("GRPO", f"calibration/{SUITE}/answer_prob_ece_count", 0.1, "GRPO: ECE"),
        ("GRPO", f"eval/{SUITE}/swap_flips", 0.8, "GRPO: flips"),
        ("paper", f"calibration/{SUITE}/eta_0", 0.9, "paper: measured p"),
        ("rest", f"calibration/{SUITE}/eta_9", 0.9, "rest: measured p"),
        ("gold", f"calibration/{SUITE}/eta_4", float("nan"), "gold: measured p"),
        ("paper, clamp both", f"calibration/{SUITE}/eta_4", 0.1, "paper, clamp both: measured p"),
        ("gold", f"calibration/{SUITE}/right_trace_ece", 0.05, "gold: ECE on right traces"),
        ("paper", f"eval/{SUITE}/argmax_accuracy", 0.93, "paper: arg-max accuracy"),
        ("paper", f"calibration/{SUITE}/answer_prob_ece_count", 0.25, "paper: ECE lower"),
    ],
)
def test_each_bar_can_be_missed(every: list[dict[str, Any]], arm: str, name: str, value: float, bar: str) -> None:
    for one in every:
        if one["arm"] == arm:
            one["final"][name] = value
    assert [asked for asked in missed(every) if asked.startswith(bar)], missed(every)


def test_what_is_missing_is_a_miss_and_what_is_mixed_is_refused(every: list[dict[str, Any]]) -> None:
    assert any(asked.startswith("SFT: a finished run") for asked in missed([r for r in every if r["arm"] != "SFT"]))
    assert any(asked.startswith("gold: a finished run") for asked in missed([r for r in every if r["seed"] != 3005]))
    with pytest.raises(ValueError, match="two rows"):
        Study([*every, every[0]], SEEDS)
    for what in ("commit", "shared", "own"):
        other = copy.deepcopy(every)
        other[3][what] = "another"
        with pytest.raises(ValueError, match=what):
            Study(other, SEEDS)


def test_settings_that_no_arm_has_are_refused() -> None:
    decision = {
        "name": "ce",
        "target": "paper",
        "clamp": "uniform",
        "reward": "argmax",
        "mask": True,
        "regularize": True,
    }
    config: dict[str, Any] = {"kind": "rl", "algorithm": {"name": "grpo"}, "decision": decision}
    assert arm_of(config) == "paper"
    assert arm_of({**config, "decision": {**decision, "name": "none"}}) == "GRPO"
    assert arm_of({**config, "decision": {**decision, "target": "gold"}}) == "gold"
    for changed in ({"mask": False}, {"regularize": False}, {"target": "rest", "clamp": "off"}):
        with pytest.raises(ValueError, match="no arm"):
            arm_of({**config, "decision": decision | changed})
    with pytest.raises(ValueError, match="no arm"):
        arm_of({**config, "decision": {**decision, "name": "none", "reward": "sampled"}})
