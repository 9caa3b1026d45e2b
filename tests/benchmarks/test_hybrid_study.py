"""The bars of the study of HyTuning: met by rows as they are hoped for, missed by each that is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import load
from carerl.config.reading.typed import plain
from carerl.config.sweep import sweep_spec
from tests.benchmarks.hybrid_picture import DRAWN, picture
from tests.benchmarks.hybrid_study import (
    AUROC,
    COMMANDS,
    HYTUNING,
    MIXTURE,
    ON_ALL_SEEDS,
    ON_SOME,
    ORACLE,
    PAIRED,
    PART,
    RD,
    SHOWN,
    SHUFFLED,
    Peak,
    arm_of,
    bars,
    course,
    courses,
    forecast,
    peak,
    said,
    table,
)
from tests.benchmarks.study_rows import Rows, paired

SEEDS = range(5000, 5008)
HOPED = {RD: (0.4, 0.1), MIXTURE: (0.5, 0.08), HYTUNING: (0.6, 0.05), SHUFFLED: (0.5, 0.08), ORACLE: (0.99, 0.1)}
BELOW = "FACTS ECE, HyTuning below"
RISE_AND_FALL = [0.3, 0.5, 0.2]


def row(arm: str, seed: int) -> dict[str, Any]:
    """A row as it is hoped for, with some spread over seeds; finetuning has no rollouts."""
    wobble = 2e-3 * (seed % 4) * (arm == HYTUNING)
    accuracy, error = HOPED.get(arm, (0.35, 0.2))
    final = dict.fromkeys(SHOWN.values(), 0.5)
    final |= {SHOWN["accuracy"]: accuracy - wobble, SHOWN["ECE"]: error + wobble}
    found: dict[str, list[float | None]] = {"train/entropy": [0.1, 0.1, 0.1]}
    if not arm.startswith(RD):
        found["rollout/accuracy"] = [value + wobble for value in RISE_AND_FALL]
    if arm.startswith((HYTUNING, SHUFFLED)):
        found[AUROC] = [0.7 + wobble, None, 0.6]
    made = {"arm": arm, "seed": seed, "commit": "c", "shared": {"part": PART}, "own": {"arm": arm}}
    return made | {"base": dict.fromkeys(SHOWN.values(), 0.4), "final": final, "courses": found}


@pytest.fixture
def every() -> list[dict[str, Any]]:
    whole = [row(arm, seed) for arm in ON_ALL_SEEDS for seed in SEEDS]
    return whole + [row(arm, seed) for arm in ON_SOME for seed in SEEDS[:4]]


def missed(found: list[dict[str, Any]]) -> list[str]:
    return [asked for asked, _, met in bars(Rows(found, SEEDS)) if not met]


def test_rows_as_hoped_for_meet_every_bar(every: list[dict[str, Any]]) -> None:
    assert missed(every) == []
    study = Rows(every, SEEDS)
    arms = len(ON_ALL_SEEDS) + len(ON_SOME)
    without = sum(arm.startswith(RD) for arm in (*ON_ALL_SEEDS, *ON_SOME))
    assert [line.split(":")[0] for line in forecast(study)] == [asked for asked, _, _ in bars(study)]
    shown = list(table(study))
    assert sum("rollouts are best" in line for line in shown) == arms - without
    assert not [line for line in shown if "not run" in line]


@pytest.mark.parametrize(
    ("arm", "figure", "value", "names"),
    [
        (MIXTURE, "accuracy", 0.61, ["accuracy, HyTuning above the fixed mixture"]),
        (SHUFFLED, "accuracy", 0.61, ["accuracy, HyTuning above shuffled gains"]),
        (MIXTURE, "ECE", 0.05, [f"{BELOW} the fixed mixture"]),
        (SHUFFLED, "ECE", 0.05, [f"{BELOW} shuffled gains"]),
        (HYTUNING, "ECE", float("nan"), [f"{BELOW} the fixed mixture", f"{BELOW} shuffled gains"]),
    ],
)  # fmt: skip
def test_each_bar_can_be_missed(
    every: list[dict[str, Any]], arm: str, figure: str, value: float, names: list[str]
) -> None:
    for one in every:
        if one["arm"] == arm:
            one["final"][SHOWN[figure]] = value
    assert missed(every) == names


def test_harm_and_a_missing_figure_are_not_called_no_effect() -> None:
    better, worse = {1: 0.6, 2: 0.62, 3: 0.61}, {1: 0.5, 2: 0.51, 3: 0.51}
    assert said(paired(better, worse))[1]
    for a, b, words in (
        (worse, better, "the opposite is shown"),
        (better, better, "no effect shown"),
        (better, worse | {2: float("nan")}, "a figure is missing"),
    ):
        text, met = said(paired(a, b))
        assert text.endswith(words) and not met


def test_a_cell_of_the_second_sweep_that_is_missing_is_said(every: list[dict[str, Any]]) -> None:
    fewer = [one for one in every if (one["arm"], one["seed"]) not in ((ON_SOME[0], 5001), (ON_SOME[0], 5003))]
    (line,) = [line for line in table(Rows(fewer, SEEDS)) if "not run" in line]
    assert line == f"{ON_SOME[0]}: not run on [5001, 5003]"


def test_rows_of_one_commit_can_be_chosen(every: list[dict[str, Any]], tmp_path: Path, capsys: Any) -> None:
    older = [{**one, "commit": "older"} for one in every]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in (*older, *every)))
    with pytest.raises(ValueError, match="two rows"):
        COMMANDS.main(["bars", str(file), "5000-5007"])
    assert COMMANDS.main(["bars", str(file), "5000-5007", "c"]) == 0 and "MISSED" not in capsys.readouterr().out
    assert COMMANDS.main(["bars", str(file)]) == 2


@pytest.mark.parametrize("parts", [[0.5, 0.5], [0.45, None, 0.54], [None, None], []])
def test_gains_that_say_nothing_about_correctness_miss(every: list[dict[str, Any]], parts: list[float | None]) -> None:
    for one in every:
        if one["arm"] == HYTUNING:
            wobble = 0.01 * (-1) ** one["seed"]
            one["courses"][AUROC] = [value if value is None else value + wobble for value in parts]
    assert missed(every) == ["AUROC of progressive gains for correctness above .5"]


def test_an_arm_without_some_seed_misses(every: list[dict[str, Any]]) -> None:
    fewer = [one for one in every if (one["arm"], one["seed"]) != (ORACLE, 5003)]
    assert missed(fewer) == [f"{ORACLE}: a finished run of every seed"]


def test_an_arm_that_is_not_there_misses_every_bar_about_it(every: list[dict[str, Any]]) -> None:
    found = missed([one for one in every if one["arm"] != SHUFFLED])
    assert found == [f"{SHUFFLED}: a finished run of every seed", *(name for name in PAIRED if "shuffled" in name)]


def test_a_course_keeps_rise_and_fall(every: list[dict[str, Any]]) -> None:
    rows = [{"a": float(step)} if step % 2 else {"b": 1.0} for step in range(15)]  # odd ones, in parts of five
    assert course(rows, "a") == [2.0, 7.0, 12.0] and course(rows[:1], "a") == [None]
    study = Rows(every, SEEDS)
    assert peak(study, MIXTURE) == Peak(2 * PART, 0.3, 0.5, 0.2, (2 * PART,) * 8) and peak(study, RD) is None
    (line,) = [line for line in courses(study) if line.startswith(HYTUNING + " ") and AUROC in line]
    assert line.split()[-3:] == ["0.703", "–", "0.600"]


def test_the_picture_has_a_line_for_each_arm_at_its_figures(every: list[dict[str, Any]]) -> None:
    found = picture(Rows([one for one in every if one["arm"] in ON_ALL_SEEDS], SEEDS))
    axes = found.figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *DRAWN.values(),
        "solutions alone, in the end",
    ]
    *lines, ends = axes.lines
    for line, arm in zip(lines, DRAWN, strict=True):
        mean = 3e-3 * (arm == HYTUNING)  # of the wobble over seeds
        assert line.get_xdata() == pytest.approx([PART, 2 * PART, 3 * PART])
        assert line.get_ydata() == pytest.approx([value + mean for value in RISE_AND_FALL])
    assert ends.get_ydata() == pytest.approx([HOPED[RD][0]] * 2)
    assert found.svg().startswith("<svg ") and "HyTuning, gains shuffled" in found.svg()
    with pytest.raises(KeyError, match=MIXTURE):
        picture(Rows([one for one in every if one["arm"] != MIXTURE], SEEDS))


def test_the_sweeps_have_the_arms_of_the_study_and_no_others() -> None:
    for sweep, arms in (("hytuning_tiny", ON_ALL_SEEDS), ("hytuning_more_tiny", ON_SOME)):
        configs = [plain(load(words.split())) for words in sweep_spec(sweep).rows]
        assert [arm_of(config) for config in configs] == list(arms)
