"""What stands side by side, method by method, against numbers worked out by hand; every picture as a file."""

from __future__ import annotations

import io
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from carerl.calibration.ranking import COVERAGES, accuracy_over_coverage
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.pictures.sections import draw
from carerl.report.compare.pictures.side_by_side import split_panels
from carerl.report.compare.rows import make_cell
from carerl.report.compare.side_by_side import coverage_by_row, pooled_bins, reliability_by_row, splits_by_row
from carerl.report.compare.tokens import Band
from carerl.report.pictures.svg import DPI, INK, Picture, colour, palette, style
from carerl.runs.find import find_runs, read_run
from carerl.runs.jsonl import JsonlTracker
from tests.runs.synthetic_runs import config, make_evaluation, make_run, questions


def compared(parent: Path) -> Comparison:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])])


def test_bins_of_one_place_are_pooled_by_their_counts() -> None:
    """[.2, .3): (10 · .25 + 30 · .29)/40 = .28 and (10 · 0 + 30 · .4)/40 = .3; the other bin is of one seed only."""
    first = [{"low": 0.2, "high": 0.30000000000000004, "confidence": 0.25, "accuracy": 0.0, "count": 10}]
    second = [
        {"low": 0.2, "high": 0.3, "confidence": 0.29, "accuracy": 0.4, "count": 30},
        {"low": 0.9, "high": 1.0, "confidence": 0.95, "accuracy": 0.5, "count": 2},
        {"low": 0.0, "high": 0.1, "confidence": 0.0, "accuracy": 0.0, "count": 0},
    ]
    low, high = pooled_bins([second, first])
    assert (low["confidence"], low["accuracy"], low["count"]) == pytest.approx((0.28, 0.3, 40))
    assert (high["confidence"], high["accuracy"], high["count"]) == (0.95, 0.5, 2)


def test_accuracy_over_coverage_is_the_mean_over_all_orders_of_tied_answers() -> None:
    """Five answers, three of one confidence: every order of them is tried."""
    confidence, right = np.asarray([0.9, 0.5, 0.5, 0.5, 0.1]), np.asarray([1.0, 1.0, 0.0, 0.0, 1.0])
    expected = np.zeros(COVERAGES)
    orders = [order for order in itertools.permutations(range(5)) if np.all(np.diff(confidence[list(order)]) <= 0)]
    for order in orders:
        for place in range(COVERAGES):
            kept = math.ceil(round((place + 1) * 5 / COVERAGES, 9))
            expected[place] += right[list(order)][:kept].mean() / len(orders)
    assert len(orders) == 6
    assert accuracy_over_coverage(confidence, right) == pytest.approx(expected)


def test_without_use_of_confidence_the_curve_is_flat() -> None:
    assert accuracy_over_coverage(np.full(7, 0.3), np.asarray([1, 0, 0, 1, 0, 0, 0])) == pytest.approx(2 / 7)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """none and care over two seeds, each with a first and a last evaluation; courses of right and wrong in three
    steps, of which none has no wrong response in the last."""
    for recipe, regularizer, last in (("none", "none", 0.0), ("care", "srkl", 1.0)):
        for seed in (1, 2):
            run = make_run(tmp_path / "runs", config(recipe, seed, regularizer), {"eval/accuracy": 0.5})
            for step, right in ((0, [0.0, 0.0]), (200, [last, float(seed == 1)])):
                one = {"low": 0.5, "high": 0.6, "confidence": 0.5, "accuracy": right[0], "count": seed}
                rows = questions("facts", [0.9, 0.2], right) + questions("q2", [1.0], [1.0])
                make_evaluation(run, step, {"eval/accuracy": 0.5}, reliability={"facts": [one]}, rows=rows)
            tracker = JsonlTracker(run / "metrics.jsonl")
            for step in (1, 2, 3):
                wrong = {} if (recipe, step) == ("none", 3) else {"train/entropy_wrong": 0.2 * seed}
                tracker.log(step, {"train/entropy_right": 0.1 * seed, **wrong})
            tracker.close()
    return tmp_path / "runs"


def test_rows_have_their_last_evaluation_and_the_base_the_first_each_seed_once(runs: Path) -> None:
    comparison = compared(runs)
    evaluated = comparison.evaluated
    assert {label: len(found) for label, found in evaluated.items()} == {"base": 2, "none": 2, "care": 2}
    bins = {row.label: found for row, found in reliability_by_row(comparison.rows, evaluated)["facts"]}
    assert [(found[0]["accuracy"], found[0]["count"]) for found in bins.values()] == [(0, 3), (0, 3), (1, 3)]
    curves = coverage_by_row(comparison.rows, evaluated)
    assert list(curves) == ["facts"], "q2 has no reliability diagram"
    base, none, care = curves["facts"]
    assert not base.accuracy.any()
    # care: the first answer is right in both seeds, the second in seed 1 only; none: the second of seed 1 only
    assert care.accuracy[0] == 1.0 and care.accuracy[-1] == pytest.approx(0.75)
    assert none.accuracy[0] == 0.0 and none.accuracy[-1] == pytest.approx(0.25)
    # accuracies of .5 and 1: ± t(.975, 1) · .25
    assert care.half[-1] == pytest.approx(12.706205 * 0.25) and (care.seeds, care.questions) == (2, 2)


def test_courses_of_right_and_wrong_end_where_there_are_no_such_responses(runs: Path) -> None:
    found = splits_by_row(compared(runs).rows)
    assert list(found) == ["Entropy"], "no divergence was logged"
    none, care = found["Entropy"]
    assert none.right and none.wrong and care.wrong
    assert [x for x, _ in none.right.points] == [1, 2, 3] and [x for x, _ in none.wrong.points] == [1, 2]
    x, y = care.wrong.points[2]
    assert (x, y.values) == (3, {1: pytest.approx(0.2), 2: pytest.approx(0.4)})


def test_all_courses_are_within_their_panels_on_one_scale(runs: Path) -> None:
    """The greatest value, .4, is of the last row's: a limit fixed by the first panel would cut it off."""
    first, last = splits_by_row(compared(runs).rows)["Entropy"]
    assert first.wrong and last.wrong
    low = [(x, make_cell({seed: value / 100 for seed, value in y.values.items()})) for x, y in first.wrong.points]
    panels = split_panels("Entropy", [replace(first, wrong=Band(first.row, low)), last]).figure.axes
    for axes in panels:
        assert axes.get_ylim() == pytest.approx((0.0, 1.06 * 0.4))
        assert all(max(line.get_ydata()) <= axes.get_ylim()[1] for line in axes.get_lines())


def test_every_picture_is_a_vector_file_and_pixels_in_the_pages_light_colours(runs: Path) -> None:
    comparison = compared(runs)
    figures = draw(comparison)
    assert [section.title for section in figures.sections] == [
        "Reliability",
        "Accuracy over coverage",
        "Right and wrong responses",
    ]
    names = [picture.name for picture in figures.pictures]
    assert len(set(names)) == len(names) >= 3
    for picture in figures.pictures:
        text = picture.svg()
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and "var(" not in text and "#0000" not in text
        used = set(re.findall(r"#[0-9a-f]{6}", text))
        assert used <= set(palette().values())
        pixels = imread(io.BytesIO(picture.png()))
        assert pixels.shape[1] == round(picture.figure.get_size_inches()[0] * DPI)


def test_a_pngs_lines_text_and_areas_have_real_colours() -> None:
    """Each kind of artist in a stand-in colour; at 100 % opacity its real colour is among the pixels, the stand-in is
    not."""
    with style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=colour(0), linewidth=6)
        axes.scatter([0.2], [0.8], s=400, color=colour(1))
        axes.bar([0.8], [0.4], 0.2, color=colour(2))
        axes.text(0.4, 0.1, "■■■", color=INK, fontsize=20)
        pixels = imread(io.BytesIO(Picture("x", "x", figure).png()))
    found = {tuple(pixel) for pixel in np.round(pixels[..., :3] * 255).astype(int).reshape(-1, 3).tolist()}
    for variable in ("--c1", "--c2", "--c3", "--ink", "--card"):
        value = palette()[variable]
        assert tuple(int(value[i : i + 2], 16) for i in (1, 3, 5)) in found, variable
    assert not any((0, 0, blue) in found for blue in range(1, 0x30))
