"""Values against generated and trained tokens, from rows of metrics.jsonl written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.report.compare.comparison import Comparison
from carerl.report.compare.tokens import (
    GENERATED,
    LEARNED,
    ROLLOUT_ACCURACY,
    TRAINED,
    at_tokens,
    bands,
    common_tokens,
    evaluated_between,
    read_trajectories,
    trajectory,
)
from carerl.runs.find import find_runs, read_run
from carerl.runs.jsonl import JsonlTracker
from tests.runs.synthetic_runs import config, make_run

ACC = "eval/accuracy"


def test_tokens_are_summed_up_to_and_including_the_evaluations_step() -> None:
    """Steps of 10, 20 and 30 tokens; evaluations before the first step, after 2 and after 3: at 0, 30 and 60."""
    rows = [
        {"step": 0, ACC: 0.3},
        {"step": 1, LEARNED: 10.0, ROLLOUT_ACCURACY: 0.4},
        {"step": 2, LEARNED: 20.0, ROLLOUT_ACCURACY: 0.5},
        {"step": 2, ACC: 0.5},
        {"step": 3, LEARNED: 30.0, ROLLOUT_ACCURACY: 0.6},
        {"step": 3, ACC: 0.9},
    ]
    found = trajectory(rows)
    assert [(x, metrics[ACC]) for x, metrics in found.evaluations] == [(0, 0.3), (30, 0.5), (60, 0.9)]
    assert found.rollouts == [(10, 0.4), (30, 0.5), (60, 0.6)] and found.learned_only
    assert found.at(ACC, 30) == 0.5 and found.at(ACC, 45) == pytest.approx(0.7)
    assert found.at(ACC, 61) is None and found.at("calibration/facts_ece", 30) is None
    # where refills are counted they count, and the row of the step stays where it was
    refilled = trajectory([{**row, GENERATED.metric: 2 * row[LEARNED]} if LEARNED in row else row for row in rows])
    assert [x for x, _ in refilled.evaluations] == [0, 60, 120] and not refilled.learned_only
    # a run that went on with a newer version logs both kinds
    mixed = trajectory(
        [{**row, GENERATED.metric: 100.0} if row["step"] == 3 and LEARNED in row else row for row in rows]
    )
    assert [x for x, _ in mixed.evaluations] == [0, 30, 130] and mixed.learned_only


def test_trained_tokens_count_those_of_anchors() -> None:
    """Rollouts of 10 tokens a step, and anchors of 2: after two steps 24, in a run that logged no sum 20."""
    rows = [{"step": 0, ACC: 0.3}]
    rows += [{"step": step, LEARNED: 10.0, GENERATED.metric: 15.0, TRAINED.metric: 12.0} for step in (1, 2)]
    rows += [{"step": 2, ACC: 0.9}]
    found = trajectory(rows, counted=TRAINED)
    assert [x for x, _ in found.evaluations] == [0, 24] and found.total == 24 and not found.learned_only
    assert trajectory(rows).total == 30
    older = trajectory([{k: v for k, v in row.items() if k != TRAINED.metric} for row in rows], counted=TRAINED)
    assert older.total == 20 and older.learned_only


def test_between_the_two_ends_of_a_run_nothing_is_interpolated() -> None:
    found = trajectory([{"step": 0, ACC: 0.3}, {"step": 1, LEARNED: 10.0}, {"step": 1, ACC: 0.9}])
    assert found.at(ACC, 5) is None and found.at(ACC, 10) == 0.9 and found.between == 0


def test_an_evaluation_on_fewer_questions_is_no_point_of_the_course() -> None:
    rows = [{"step": step, ACC: 0.3 * step, LEARNED: 10.0} for step in (1, 2, 3)]
    found = trajectory(rows, fewer={2})
    assert [x for x, _ in found.evaluations] == [10, 30] and found.at(ACC, 20) is None


def test_a_run_without_tokens_has_no_place_on_the_axis() -> None:
    assert trajectory([{"step": 0, ACC: 0.3}, {"step": 9, ACC: 0.5}]).evaluations == []


def logged(run: Path, tokens: float, accuracies: list[float], between: bool = True) -> None:
    """Steps of equal tokens, evaluated after each, or at the ends only."""
    tracker = JsonlTracker(run / "metrics.jsonl")
    for step, accuracy in enumerate(accuracies):
        if step:
            tracker.log(step, {GENERATED.metric: tokens, ROLLOUT_ACCURACY: accuracy})
        if between or step in (0, len(accuracies) - 1):
            tracker.log(step, {ACC: accuracy})
    tracker.close()


def test_all_rows_are_compared_at_what_the_shortest_run_generated(tmp_path: Path) -> None:
    """none: 100 tokens a step, two steps: 200. care: 150 and 125 a step: 300 and 250. At 200 care has, by seed,
    .2 + .4 · 50/150 = 1/3 and .2 + .4 · 75/125 = .44."""
    logged(make_run(tmp_path, config("none", 1), {ACC: 0.9}), 100.0, [0.2, 0.5, 0.9])
    for seed, tokens in ((1, 150.0), (2, 125.0)):
        logged(make_run(tmp_path, config("care", seed, "srkl"), {ACC: 0.6}), tokens, [0.1, 0.2, 0.6])
    make_run(tmp_path, config("rkl", 1, "rkl"), {ACC: 0.4})
    rows = Comparison.of([read_run(path) for path in find_runs([str(tmp_path)])]).rows
    found = read_trajectories(rows)
    assert common_tokens(found) == 200 and evaluated_between(found)
    made = {at.row.label: at for at in at_tokens(rows, found, [ACC], 200.0)}
    assert made["none"].cells[ACC].values == {1: 0.9}
    assert made["care"].cells[ACC].values == pytest.approx({1: 1 / 3, 2: 0.44})
    assert made["rkl"].cells == {} and made["rkl"].absent == "no tokens in metrics.jsonl"
    (none, care) = bands([row for row in rows if not row.is_base], found, ACC)
    assert (none.row.label, care.row.label) == ("none", "care")
    assert [x for x, _ in care.points] == [0, 137.5, 275]
    assert [y.mean for _, y in care.points] == pytest.approx([0.1, 0.2, 0.6])
    assert care.points[2][1].half == 0 and none.points[0][1].half is None


def test_a_row_some_of_whose_runs_lack_the_value_is_absent(tmp_path: Path) -> None:
    """Seed 1 was evaluated at exactly 200 tokens, seed 2 at 0 and 220 only: seed 1 alone would be a selection."""
    logged(make_run(tmp_path, config("none", 1), {ACC: 0.9}), 100.0, [0.2, 0.5, 0.9], between=False)
    logged(make_run(tmp_path, config("none", 2), {ACC: 0.9}), 110.0, [0.2, 0.5, 0.9], between=False)
    rows = Comparison.of([read_run(path) for path in find_runs([str(tmp_path)])]).rows
    found = read_trajectories(rows)
    assert common_tokens(found) == 200 and not evaluated_between(found)
    (at,) = at_tokens(rows, found, [ACC], 200.0)
    assert at.cells == {} and at.absent == "evaluated on all questions at the ends only"
