"""The bars of the study of anchors: met by rows as they are hoped for, missed by each that is off."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from carerl.config.load import load
from carerl.config.reading.typed import plain
from carerl.config.sweep import sweep_spec
from tests.benchmarks.anchor_study import (
    ANCHOR,
    CARE,
    EQUAL,
    NONE,
    ON_ALL_SEEDS,
    ON_SOME,
    SHOWN,
    Study,
    arm_of,
    bars,
    comparisons,
    forecast,
    table,
)

SEEDS = range(2000, 2008)
HOPED = {  # accuracy, ECE, F1
    NONE: (0.99, 0.09, 0.3),
    CARE: (0.87, 0.05, 0.6),
    EQUAL: (0.99, 0.07, 0.4),
    ANCHOR: (0.99, 0.035, 0.9),
}


def row(arm: str, seed: int) -> dict[str, Any]:
    """A row as it is hoped for, with some spread over seeds."""
    wobble = 2e-3 * (seed % 4) * (arm == ANCHOR)
    accuracy, error, f1 = HOPED.get(arm, (0.95, 0.06, 0.5))
    final = dict.fromkeys(SHOWN.values(), 0.5)
    final |= {SHOWN["accuracy"]: accuracy - wobble, SHOWN["ECE"]: error + wobble, SHOWN["F1"]: f1 - wobble}
    base = dict.fromkeys(SHOWN.values(), 0.5) | {SHOWN["ECE"]: 0.03, SHOWN["F1"]: 0.92}
    cost = dict.fromkeys(("train/tokens", "anchor/tokens", "time/step", "time/train"), 1.0)
    shared, own = {"task": "tiny"}, {"arm": arm}
    made = {"arm": arm, "seed": seed, "commit": "c", "shared": shared, "own": own}
    return made | {"base": base, "final": final, "cost": cost}


@pytest.fixture
def every() -> list[dict[str, Any]]:
    return [row(arm, seed) for arm in ON_ALL_SEEDS for seed in SEEDS] + [
        row(arm, seed) for arm in ON_SOME for seed in SEEDS[:4]
    ]


def missed(found: list[dict[str, Any]]) -> list[str]:
    return [asked for asked, _, met in bars(Study(found, SEEDS)) if not met]


def test_rows_as_hoped_for_meet_every_bar(every: list[dict[str, Any]]) -> None:
    assert missed(every) == []
    study = Study(every, SEEDS)
    arms = len(ON_ALL_SEEDS) + len(ON_SOME)
    assert len(list(comparisons(study))) == 6 * (arms - 1) and len(list(forecast(study))) == 3
    assert len(list(table(study))) == 2 + 1 + arms + 1 + 2 + arms + 2 + 6 * (arms - 1)


@pytest.mark.parametrize(
    ("arm", "figure", "value", "bar"),
    [
        (ANCHOR, "accuracy", 0.93, "accuracy, anchors not lower"),
        (ANCHOR, "ECE", 0.046, "anchors: mean FACTS ECE"),
        (ANCHOR, "F1", 0.86, "anchors: mean UNKNOWABLE F1"),
        (EQUAL, "ECE", 0.03, "FACTS ECE, anchors lower"),
        (EQUAL, "F1", 0.9, "UNKNOWABLE F1, anchors higher"),
        (ANCHOR, "ECE", float("nan"), "anchors: mean FACTS ECE"),
    ],
)
def test_each_bar_can_be_missed(every: list[dict[str, Any]], arm: str, figure: str, value: float, bar: str) -> None:
    for one in every:
        if one["arm"] == arm:
            one["final"][SHOWN[figure]] = value
    assert [asked for asked in missed(every) if asked.startswith(bar)], missed(every)


def test_a_difference_that_a_single_test_would_find_can_fail_the_family(every: list[dict[str, Any]]) -> None:
    """Two differences whose one-sided p lies between .025 and .05, beside a sure one: Holm's method doubles both."""
    gaps = [0.02, 0.06, -0.025, 0.05, -0.01, 0.04, 0.03, 0.01]
    for one in every:
        if one["arm"] in (ANCHOR, EQUAL):
            gap = gaps[one["seed"] - 2000] if one["arm"] == ANCHOR else 0.0
            one["final"][SHOWN["F1"]] = 0.9 + gap
            one["final"][SHOWN["ECE"]] = 0.04 - gap / 10
    found = {asked: said for asked, said, met in bars(Study(every, SEEDS)) if not met}
    names = [asked for asked in found if "Holm" in asked]
    assert len(names) == 2 and all("bound +" in found[name] for name in names), found


def test_what_is_missing_is_a_miss_and_what_is_mixed_is_refused(every: list[dict[str, Any]]) -> None:
    assert any(asked.startswith(f"{CARE}: a finished run") for asked in missed([r for r in every if r["arm"] != CARE]))
    with pytest.raises(ValueError, match="two rows"):
        Study([*every, every[0]], SEEDS)
    for what in ("commit", "shared", "own"):
        other = copy.deepcopy(every)
        other[3][what] = "another"
        with pytest.raises(ValueError, match=what):
            Study(other, SEEDS)


def test_the_sweeps_have_the_arms_of_the_study_and_no_others() -> None:
    for sweep, arms in (("anchors_tiny", ON_ALL_SEEDS), ("anchors_dapo_tiny", ON_SOME)):
        configs = [plain(load(words.split())) for words in sweep_spec(sweep).rows]
        assert [arm_of(config) for config in configs] == list(arms)
