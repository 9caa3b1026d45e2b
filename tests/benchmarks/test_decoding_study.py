"""The bars of the study of steps and trees: met by rows as they should be, missed by each that is off. And its cells:
run once each, gone on with where they were stopped.

Not covered: trainings and evaluations themselves, which the study runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import decoding_cells
from tests.benchmarks.decoding_cells import ARMS, METHODS, ON_SOME, SUITE, chosen_of, decoded_figures, run_cells
from tests.benchmarks.decoding_study import GAP, STEP_ECE, Study, bars, forecast, main, needed, rounds, table, verdict

SEEDS = range(4000, 4008)


def row(arm: str, seed: int) -> dict[str, Any]:
    """A row that meets every bar, with some spread over seeds."""
    wobble = 1e-3 * (seed % 4)
    figures = {"accuracy": 0.6, "tokens": 80.0, "ece": 0.1, "auroc": 0.7, "pruned": 0.0}
    gains = {"equal_tokens_gain": 0.005 + wobble, "equal_budget_gain": wobble}
    decode = {method: dict(figures) for method in METHODS}
    decode["cat"] |= gains | {"tokens": 60.0 + wobble, "pruned": 0.3}
    of_rounds = {
        str(n): {GAP: 0.1 + n * (0.05 + wobble), STEP_ECE: 0.1 - n * (0.02 + wobble), "calibration/facts_ece": 0.03}
        for n in range(4)
    }
    return {
        "arm": arm, "seed": seed, "commit": "c", "shared": {"task": "t"}, "own": {"arm": arm},
        "final": {"eval/accuracy": 0.5, "calibration/facts_ece": 0.04 + wobble}, "decode": {SUITE: decode},
        "rounds": {} if arm == "base" else of_rounds,
        "chosen": {str(n): 0.1 + wobble for n in (1, 2, 3)} if "DPO" in arm or "CASPO" in arm else {},
    }  # fmt: skip


@pytest.fixture
def every() -> list[dict[str, Any]]:
    return [row(arm, seed) for arm in ARMS for seed in needed(arm, SEEDS)]


def missed(found: list[dict[str, Any]]) -> list[str]:
    return [asked for asked, _, met in bars(Study(found, SEEDS)) if not met]


def test_rows_as_they_should_be_meet_every_bar(every: list[dict[str, Any]]) -> None:
    assert missed(every) == []
    study = Study(every, SEEDS)
    assert len(study.by_arm["outcome-DPO"]) == 4 and len(study.by_arm["CASPO"]) == 8
    assert len(list(table(study))) == 2 + 6 + 1 + 2 + 6 * 5 and len(list(rounds(study))) == 2 + 4 * 4
    assert len(list(forecast(study))) == 2
    development = [{**one, "seed": one["seed"] - 3900} for one in every]
    assert missed([*every, *development]) == [], "rows of other seeds are not looked at"


def in_decoding(arm: str, kind: str, value: float, method: str = "cat") -> Any:
    def change(one: dict[str, Any]) -> None:
        if one["arm"] == arm:
            one["decode"][SUITE][method][kind] = value

    return change


def in_rounds(name: str, value: float) -> Any:
    def change(one: dict[str, Any]) -> None:
        if one["arm"] == "CASPO":
            one["rounds"]["2"][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        (in_decoding("base", "equal_tokens_gain", 0.03), "base: CaT gains at most"),
        (in_decoding("base", "equal_tokens_gain", float("nan")), "base: CaT gains at most"),
        (in_decoding("CASPO", "equal_tokens_gain", -0.001), "CASPO: CaT not below"),
        (in_rounds(GAP, 0.1), "CASPO: entropy gap"),
        (in_rounds(GAP, -0.3), "CASPO: entropy gap"),
        (in_rounds(STEP_ECE, 0.1), "CASPO: step ECE"),
        (in_rounds(STEP_ECE, 0.5), "CASPO: step ECE"),
        (in_rounds(STEP_ECE, float("nan")), "CASPO: step ECE"),
        (lambda one: one["chosen"].update({"2": -0.2}) if one["arm"] == "CASPO" else None, "CASPO: the chosen"),
        (lambda one: one.update(chosen={}) if one["arm"] == "CASPO" else None, "CASPO: the chosen"),
        (lambda one: one["final"].pop("calibration/facts_ece") if one["arm"] == "GRPO" else None, "FACTS ECE"),
    ],
)
def test_each_bar_can_be_missed_alone(every: list[dict[str, Any]], change: Any, bar: str) -> None:
    for one in every:
        change(one)
    (asked,) = missed(every)
    assert asked.startswith(bar)


def test_a_gain_whose_bound_is_below_0_is_no_gain_though_its_mean_is_above(every: list[dict[str, Any]]) -> None:
    """Gains of +.10 and −.06 by turns: mean .02, its t bound on 8 seeds .02 − 1.895 · .0855/√8 = −.037."""
    for one in every:
        if one["arm"] == "CASPO":
            one["decode"][SUITE]["cat"]["equal_tokens_gain"] = 0.10 if one["seed"] % 2 else -0.06
    said = {asked: text for asked, text, _ in bars(Study(every, SEEDS))}
    assert missed(every) == ["CASPO: CaT not below self-consistency at equal tokens"]
    for one in every:
        in_decoding("CASPO", "tokens", 80.0)(one)
    assert verdict(Study(every, SEEDS), "CASPO") == "no effect", "neither bound is on one side of 0"
    assert "difference +0.0200, one-sided 95 % bound -0.0373" in next(t for a, t in said.items() if "not below" in a)


@pytest.mark.parametrize(
    ("gain", "whole", "tokens", "said"),
    [
        (0.0, 0.0, 60.0, "not below"),
        (-0.02, -0.005, 60.0, "saves tokens only"),
        (-0.02, -0.02, 60.0, "loses"),
        (-0.02, -0.005, 80.0, "loses"),
        (float("nan"), float("nan"), 60.0, "no effect"),
    ],
)
def test_the_verdict_on_cat(every: list[dict[str, Any]], gain: float, whole: float, tokens: float, said: str) -> None:
    for kind, value in (("equal_tokens_gain", gain), ("equal_budget_gain", whole), ("tokens", tokens)):
        for one in every:
            in_decoding("CASPO", kind, value)(one)
    assert verdict(Study(every, SEEDS), "CASPO") == said


def test_what_is_missing_is_a_miss_and_what_is_mixed_is_refused(every: list[dict[str, Any]]) -> None:
    assert [a for a in missed([r for r in every if r["arm"] != "GRPO"]) if a.startswith("GRPO: a finished cell")]
    assert [a for a in missed([r for r in every if r["seed"] != 4002]) if a.startswith("outcome-DPO: a finished")]
    without = [r for r in every if (r["arm"], r["seed"]) != ("outcome-DPO", 4003)]
    assert missed(without) == ["outcome-DPO: a finished cell of every seed"]
    with pytest.raises(ValueError, match="two rows"):
        Study([*every, every[0]], SEEDS)
    other = copy.deepcopy(every)
    other[3]["shared"] = {"task": "another"}
    with pytest.raises(ValueError, match="shared"):
        Study(other, SEEDS)


def test_some_arms_are_run_on_half_of_the_seeds_of_the_confirmation() -> None:
    assert [len(needed(arm, SEEDS)) for arm in ("CASPO", *ON_SOME)] == [8, 4]
    assert [len(needed(arm, range(100, 104))) for arm in ("CASPO", *ON_SOME)] == [4, 4]


class Programs:
    """Stands in for the programs: leaves a finished directory, or fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.said = failing, []  # type: ignore[var-annotated]

    def __call__(self, words: Sequence[str], log: Path) -> int:
        self.said.append(list(words[2:]))
        place = next(Path(word.split("=", 1)[1]) for word in words if word.startswith(("run_dir=", "out=", "resume=")))
        if self.failing and self.failing in str(place):
            return 1
        place.mkdir(parents=True, exist_ok=True)
        (place / "summary.json").write_text(json.dumps({"status": "completed"}))
        return 0


@pytest.fixture
def plain_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows without the contents of directories; base models at a place of the test's own."""
    monkeypatch.setattr(decoding_cells, "row_of", lambda cell, trained, decoded: {"arm": cell[0], "seed": cell[1]})
    monkeypatch.setattr(decoding_cells, "base_of", lambda seed: tmp_path)


def test_a_finished_cell_is_not_run_again_and_a_failed_one_is(tmp_path: Path, plain_rows: None) -> None:
    rows, cells = tmp_path / "rows.jsonl", [("base", 100), ("CASPO", 100), ("GRPO", 100)]
    first = Programs(failing="caspo-s100/decoded")
    assert run_cells(tmp_path / "cells", rows, cells, first) == 1
    assert [json.loads(line)["arm"] for line in rows.read_text().splitlines()] == ["GRPO", "base"]
    second = Programs()
    assert run_cells(tmp_path / "cells", rows, cells, second) == 0
    (words,) = second.said
    assert words[0] == "carerl.evaluate" and f"model={tmp_path}/cells/caspo-s100/trained" in words, "it is trained"
    assert run_cells(tmp_path / "cells", rows, cells, third := Programs()) == 0 and third.said == []
    assert len(rows.read_text().splitlines()) == 3, "a row each"


def test_a_stopped_training_goes_on_from_its_checkpoint_and_one_without_starts_anew(
    tmp_path: Path, plain_rows: None
) -> None:
    begun, early = tmp_path / "caspo-s100" / "trained", tmp_path / "grpo-s100" / "trained"
    (begun / "checkpoints" / "step_000001").mkdir(parents=True)
    early.mkdir(parents=True)
    programs = Programs()
    assert run_cells(tmp_path, tmp_path / "rows.jsonl", [("CASPO", 100), ("GRPO", 100)], programs) == 0
    trainings = {words[1]: words for words in programs.said if words[0] == "carerl.run"}
    assert trainings[f"resume={begun}"] == ["carerl.run", f"resume={begun}"]
    assert f"run_dir={early}" in trainings["recipe=none_grpo_tiny"] and "seed=100" in trainings["recipe=none_grpo_tiny"]
    assert len(list(early.parent.glob("trained.*"))) == 1, "what was there is kept"


def test_a_base_model_that_nobody_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoding_cells, "base_of", lambda seed: tmp_path / "nowhere")
    assert run_cells(tmp_path, tmp_path / "rows.jsonl", [("base", 100)], Programs()) == 1
    assert "run another arm of this seed first" in capsys.readouterr().out


def test_figures_of_decoding_and_of_rounds_are_read_back(tmp_path: Path) -> None:
    metrics = {"eval/accuracy": 0.5, "decode/q3/cat/tokens": 61.5, "decode/q2/greedy/ece": 0.25}
    assert decoded_figures(metrics) == {"q3": {"cat": {"tokens": 61.5}}, "q2": {"greedy": {"ece": 0.25}}}
    lines = [{"step": 0, "eval/accuracy": 0.1}] + [
        {"step": n, "round/chosen_logprob_start": -2.0, "round/chosen_logprob_end": -2.0 + n / 4} for n in (1, 2)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert chosen_of(tmp_path) == {"1": 0.25, "2": 0.5}


def test_the_command_says_what_it_does_and_ends_with_1_where_a_bar_is_missed(
    tmp_path: Path, every: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "rows.jsonl"
    place.write_text("".join(json.dumps(one) + "\n" for one in every))
    assert main(["bars", str(place), "4000-4007"]) == 0
    assert "CASPO: CaT at equal tokens: not below" in capsys.readouterr().out
    assert main(["bars", str(place), "4000-4008"]) == 1
    assert main(["forecast", str(place), "4000-4003"]) == 0 and main(["bars"]) == 2


def test_when_a_training_evaluates_is_no_difference_between_arms() -> None:
    """The base model's row has settings of an evaluation by itself; all that concerns what is drawn must agree."""
    alone = {"samples": 16, "temperature": 1.0, "seed": 7, "every": 0, "at_start": False, "at_end": False}
    trained = {**alone, "every": 50, "at_start": True, "at_end": True, "questions_between": 60}
    assert decoding_cells._drawn(alone) == decoding_cells._drawn(trained)
    assert decoding_cells._drawn(alone) != decoding_cells._drawn({**trained, "samples": 8})
