"""Families, curves and what is read off them, against numbers worked out by hand. The page is in test_compare.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from carerl.report.compare.comparison import Comparison
from carerl.report.compare.frontier import (
    ACCURACY,
    DIVERGENCE,
    at_equal_beta,
    common_value,
    curves,
    families,
    interpolated,
    matched,
    reach,
)
from carerl.report.compare.rows import Row
from carerl.runs.find import find_runs, read_run
from tests.runs.synthetic_runs import config, make_run


def rows_of(parent: Path) -> Sequence[Row]:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])]).rows


def add(parent: Path, recipe: str, regularizer: str, seed: int = 1, x: float = 1.0, y: float = 0.5, **settings: object):  # type: ignore[no-untyped-def]
    made = {DIVERGENCE: x, ACCURACY: y}
    make_run(parent, config(recipe, seed, regularizer, **settings), made, {}, suffix=f"{len(list(parent.glob('*')))}")


def test_a_family_is_all_settings_but_the_recipes_name_alpha_and_beta(tmp_path: Path) -> None:
    """Nine runs: none; rkl of two recipes and betas; srkl at three alphas, not in the order of their names, and with
    another estimator; srkl under another algorithm."""
    add(tmp_path, "none_grpo_tiny", "none")
    add(tmp_path, "rkl_grpo_tiny", "rkl", beta=3.0, estimator="full")
    add(tmp_path, "rkl_tuned_grpo_tiny", "rkl", beta=0.2, estimator="full")
    for alpha in (0.95, 0.0, 0.5):
        add(tmp_path, "care_grpo_tiny", "srkl", alpha=alpha, beta=3.0, estimator="full")
    add(tmp_path, "care_grpo_tiny", "srkl", alpha=0.8, beta=3.0, estimator="score")
    dapo = config("care_dapo_tiny", 1, "srkl", alpha=0.8, beta=3.0, estimator="full")
    dapo["algorithm"]["name"] = "dapo"
    make_run(tmp_path, dapo, {DIVERGENCE: 1.0, ACCURACY: 0.5}, {})
    rows = rows_of(tmp_path)
    found = {curve.name: [curve.label(row) for row in curve.rows] for curve in curves(rows)}
    assert found == {
        "none_grpo": ["none_grpo"],
        "rkl_grpo": ["rkl_grpo β=0.2", "3"],
        "care_grpo · estimator=full": ["care_grpo · estimator=full α=0", "0.5", "0.95"],
        "care_grpo · alpha=0.8 · estimator=score": ["care_grpo · alpha=0.8 · estimator=score"],
        "care_dapo": ["care_dapo"],
    }
    assert [len(family) for family in families(rows)] == [1, 1, 3, 1, 2]
    # the table has them in the same order, as numbers and not as text
    alphas = [row.runs[0].alpha for row in rows if row.runs[0].recipe == "care_grpo_tiny"]
    assert alphas == [0.0, 0.5, 0.95, 0.8]
    assert len({row.label for row in rows}) == len(rows)


def test_a_family_swept_in_both_has_a_curve_per_value_of_the_one_with_fewer(tmp_path: Path) -> None:
    for beta in (10.0, 1.0, 3.0):
        for alpha in (0.8, 0.5):
            add(tmp_path, "care", "srkl", alpha=alpha, beta=beta)
    found = curves(rows_of(tmp_path))
    assert [curve.name for curve in found] == ["care α=0.5", "care α=0.8"]
    assert [[row.runs[0].beta for row in curve.rows] for curve in found] == [[1.0, 3.0, 10.0]] * 2
    assert {curve.family for curve in found} == {0}
    assert [curve.label(row) for curve in found for row in curve.rows][:2] == ["care α=0.5 β=1", "3"]


def anchored(parent: Path, weight: float, source: str = "names", beta: float | None = None) -> None:
    """A run with anchors, under a penalty of that beta or none."""
    penalty = ("none", {}) if beta is None else ("srkl", {"alpha": 0.8, "beta": beta})
    made = config("anchor", 1, penalty[0], **penalty[1])
    made["anchor"] = {"name": "prompts", "source": source, "weight": weight}
    make_run(parent, made, {DIVERGENCE: weight, ACCURACY: 0.5}, {}, suffix=f"{len(list(parent.glob('*')))}")


def test_anchors_are_joined_along_their_weight(tmp_path: Path) -> None:
    add(tmp_path, "none", "none")
    for weight in (10.0, 1.0, 2.0):
        anchored(tmp_path, weight)
    anchored(tmp_path, 1.0, source="textbook")
    rows = rows_of(tmp_path)
    found = {curve.name: [curve.label(row) for row in curve.rows] for curve in curves(rows)}
    (name,) = (name for name, labels in found.items() if len(labels) == 3)
    assert "names" in name and found[name] == [f"{name} w=1", "2", "10"]
    assert [labels for labels in found.values() if len(labels) == 1 and "none" in labels[0]] == [["none"]]
    assert len(found) == 3, "another source is another family"
    plain = next(row for row in rows if row.label == "none")
    others = [row for row in rows if not row.is_base and row is not plain]
    assert {row.baseline for row in others} == {"none"} and len(others) == 4, "a row with anchors is no plain baseline"


def test_a_weight_and_a_beta_that_are_swept_together_make_a_curve_for_each_of_the_fewer(tmp_path: Path) -> None:
    for beta in (1.0, 4.0):
        for weight in (4.0, 1.0, 2.0):
            anchored(tmp_path, weight, beta=beta)
    found = curves(rows_of(tmp_path))
    assert [curve.name for curve in found] == ["anchor β=1", "anchor β=4"]
    assert [[row.runs[0].weight for row in curve.rows] for curve in found] == [[1.0, 2.0, 4.0]] * 2


@pytest.mark.parametrize(
    ("ranges", "value"),
    [
        ([(0.0, 4.0), (1.0, 8.0)], 2.5),  # both from 1 to 4
        ([(0.0, 4.0), (1.0, 8.0), (2.0, 9.0), (20.0, 30.0)], 3.0),  # three from 2 to 4
        ([(0.0, 1.0), (0.0, 1.0), (5.0, 9.0), (6.0, 9.5)], 7.5),  # pairs from 0 to 1 and from 6 to 9: the wider
        ([(0.0, 4.0), (3.0, 3.0)], 3.0),  # a point on a curve
        ([(0.0, 4.0), (1.0, 8.0), (3.0, 3.0)], 3.0),  # three meet there, two anywhere else
        ([(0.0, 4.0), (4.0, 8.0)], None),  # they only touch
        ([(0.0, 4.0), (5.0, 5.0)], None),
        ([], None),
    ],
)
def test_the_common_value_is_where_most_meet(ranges: list[tuple[float, float]], value: float | None) -> None:
    assert common_value(ranges) == value


def test_a_value_at_matched_divergence_lies_on_the_segment_and_seeds_are_carried_along_it(tmp_path: Path) -> None:
    """Means (1, .2) and (3, .6), slope .2. At 2.5 w = .75: .25·.2 + .75·.6 = .5.
    Seed 1: (.8, .2) and (3.2, .62): x = .25·.8 + .75·3.2 = 2.6, y = .515, carried: .515 + .2·(2.5 − 2.6) = .495.
    Seed 2: (1.2, .2) and (2.8, .58): x = 2.4, y = .485, carried: .505. Half: 12.706 · .01/√2 / √2 = .0635."""
    points = {0.2: {1: (0.8, 0.2), 2: (1.2, 0.2)}, 0.8: {1: (3.2, 0.62), 2: (2.8, 0.58)}}
    for alpha, seeds in points.items():
        for seed, (x, y) in seeds.items():
            add(tmp_path, "care", "srkl", seed, x, y, alpha=alpha)
    rows = rows_of(tmp_path)
    cell = interpolated(rows, DIVERGENCE, ACCURACY, 2.5)
    assert cell is not None and cell.mean == pytest.approx(0.5)
    assert cell.values == pytest.approx({1: 0.495, 2: 0.505})
    assert cell.half == pytest.approx(12.7062047 * 0.005, rel=1e-6)
    # at a point it is the point's mean, and beyond the ends there is nothing
    at_end = interpolated(rows, DIVERGENCE, ACCURACY, 3.0)
    assert at_end is not None and at_end.mean == pytest.approx(0.6)
    assert interpolated(rows, DIVERGENCE, ACCURACY, 3.001) is None
    assert interpolated(rows, DIVERGENCE, ACCURACY, 0.999) is None


def test_one_seed_has_a_value_and_no_interval_and_the_order_is_that_of_the_divergence(tmp_path: Path) -> None:
    """(4, .8), (1, .2) and (2, .6) in the order of alpha: at 1.5 between the latter two, .4."""
    for alpha, (x, y) in {0.1: (4.0, 0.8), 0.2: (1.0, 0.2), 0.3: (2.0, 0.6)}.items():
        add(tmp_path, "care", "srkl", 1, x, y, alpha=alpha)
    cell = interpolated(rows_of(tmp_path), DIVERGENCE, ACCURACY, 1.5)
    assert cell is not None and cell.mean == pytest.approx(0.4) and cell.half is None


def test_curves_that_do_not_reach_the_common_divergence_are_absent_with_the_reason(tmp_path: Path) -> None:
    """care reaches 1 to 3 and rkl 2 to 6: at 2.5. js reaches 7 to 9; none is one point, fkl was not measured."""
    for alpha, x, y in ((0.2, 1.0, 0.2), (0.8, 3.0, 0.6)):
        add(tmp_path, "care", "srkl", 1, x, y, alpha=alpha)
    for beta, x, y in ((3.0, 2.0, 0.4), (0.2, 6.0, 0.8)):
        add(tmp_path, "rkl", "rkl", 1, x, y, beta=beta)
    for beta, x in ((3.0, 7.0), (0.2, 9.0)):
        add(tmp_path, "js", "js", 1, x, 0.9, beta=beta)
    add(tmp_path, "none", "none", 1, 7.3, 0.99)
    make_run(tmp_path, config("fkl", 1, "fkl", beta=1.0), {ACCURACY: 0.5}, {})
    at, lines = matched(curves(rows_of(tmp_path)), DIVERGENCE, [ACCURACY])
    assert at == 2.5
    assert {line.name: line.absent for line in lines} == {
        "care": "",
        "rkl": "",
        "js": "reaches 7 to 9",
        "none": "one point, at 7.3",
        "fkl": "not measured",
    }
    values = {line.name: line.cells[ACCURACY].mean for line in lines if line.cells}
    assert values == pytest.approx({"care": 0.5, "rkl": 0.4 + 0.4 / 8})


def test_a_single_point_on_another_familys_curve_is_compared_there(tmp_path: Path) -> None:
    for beta, x, y in ((3.0, 2.0, 0.4), (0.2, 6.0, 0.8)):
        add(tmp_path, "rkl", "rkl", 1, x, y, beta=beta)
    add(tmp_path, "care", "srkl", 1, 5.0, 0.9, alpha=0.8)
    found = curves(rows_of(tmp_path))
    at, lines = matched(found, DIVERGENCE, [ACCURACY])
    assert at == 5.0 and [reach(curve, DIVERGENCE) for curve in found] == [(5.0, 5.0), (2.0, 6.0)]
    assert {line.name: line.cells[ACCURACY].mean for line in lines} == pytest.approx({"care": 0.9, "rkl": 0.7})


def test_equal_beta_needs_two_families_that_share_one(tmp_path: Path) -> None:
    add(tmp_path, "none", "none")
    add(tmp_path, "care", "srkl", alpha=0.8, beta=3.0)
    add(tmp_path, "care", "srkl", alpha=0.5, beta=3.0)
    add(tmp_path, "rkl", "rkl", beta=0.2)
    assert at_equal_beta(rows_of(tmp_path)) == []
    add(tmp_path, "rkl", "rkl", beta=3.0)
    found = at_equal_beta(rows_of(tmp_path))
    expected = [("care α=0.5", 3.0), ("care α=0.8", 3.0), ("rkl", 3.0)]
    assert [(at.name, at.beta) for at in found] == expected and len({at.family for at in found}) == 2


def test_equal_beta_takes_neither_an_adapted_beta_nor_another_algorithms(tmp_path: Path) -> None:
    add(tmp_path, "care", "srkl", alpha=0.8, beta=3.0)
    add(tmp_path, "rkl", "rkl", beta=3.0, target_kl=0.05)
    settings = config("rloo", 1, "rkl", beta=3.0)
    settings["algorithm"]["name"] = "rloo"
    make_run(tmp_path, settings, {DIVERGENCE: 1.0, ACCURACY: 0.5}, {}, suffix="rloo")
    assert at_equal_beta(rows_of(tmp_path)) == []
    add(tmp_path, "rkl_fixed", "rkl", beta=3.0)
    assert {at.row.runs[0].recipe for at in at_equal_beta(rows_of(tmp_path))} == {"care", "rkl_fixed"}
