"""Labels in the accuracy–calibration picture: all there, none over another, all inside."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from carerl.report.compare.comparison import Comparison
from carerl.report.compare.pictures.labels import Mark, Point, _overlap, place_labels
from carerl.report.compare.pictures.scatter import limits, scatter
from carerl.report.compare.rows import Cell, Row, make_cell
from carerl.report.pictures.svg import colour, style
from carerl.runs.find import Run


def marks(centres: list[tuple[float, float]], spread: float) -> list[Mark]:
    rng = np.random.default_rng(0)
    made = []
    for i, (x, y) in enumerate(centres):
        runs = np.stack([c + spread * rng.normal(size=8) for c in (x, y)], axis=1).tolist()
        ends = (Point(c, c - spread, c + spread) for c in (x, y))
        made.append(Mark(f"care · estimator=kind{i}", colour(i), False, *ends, runs))
    return made


@pytest.mark.parametrize(
    "centres",
    [
        [(0.95, 0.05)] * 6,  # all in one place
        [(0.95 + 0.002 * i, 0.05 + 0.001 * i) for i in range(10)],  # a string of beads
        [(1.0, 0.0), (1.0, 0.1), (0.0, 0.0), (0.0, 0.1)],  # in the corners
    ],
)
def test_labels_do_not_overlap_and_stay_inside(centres: list[tuple[float, float]]) -> None:
    with style():
        figure = Figure(figsize=(5.6, 4.2))
        axes = figure.subplots()
        axes.set_xlim(-0.1, 1.1)
        axes.set_ylim(-0.02, 0.13)
        boxes = place_labels(figure, axes, marks(centres, 0.002))
        frame = axes.get_window_extent()
    assert len(boxes) == len(centres)
    for a, b in itertools.combinations(boxes, 2):
        assert _overlap(a, b) == 0
    for left, bottom, right, top in boxes:
        assert frame.x0 <= left and right <= frame.x1 and frame.y0 <= bottom and top <= frame.y1


def test_a_lone_label_stands_beside_its_mean() -> None:
    with style():
        figure = Figure(figsize=(5.6, 4.2))
        axes = figure.subplots()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        (box,) = place_labels(figure, axes, marks([(0.5, 0.5)], 0.0))
        x, y = axes.transData.transform((0.5, 0.5))
    gap = max(box[0] - x, x - box[2], 0.0)
    assert 5 < gap < 20 and box[1] < y < box[3]


def test_a_label_keeps_clear_of_the_lines_and_an_unnamed_point_has_none() -> None:
    """A lone label stands to the right of its point; with a line there it stands elsewhere."""
    alone, crossed = [], []
    with style():
        for lines, found in (([], alone), ([[(0.5, 0.5), (1.0, 0.5)]], crossed)):
            figure = Figure(figsize=(5.6, 4.2))
            axes = figure.subplots()
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            end = Mark("", colour(0), False, Point(1.0), Point(0.5))
            found += place_labels(figure, axes, [*marks([(0.5, 0.5)], 0.0), end], lines)
            x, y = axes.transData.transform((0.5, 0.5))
    assert len(alone) == len(crossed) == 1
    assert alone[0][0] > x and alone[0][1] < y < alone[0][3]
    assert not (crossed[0][2] > x and crossed[0][1] < y < crossed[0][3])


def test_the_axis_of_a_share_ends_at_0_and_1() -> None:
    """Two seeds at .02 and .06: mean .04, half-width 12.706 · .02 = .254, so that the interval is −.214 … .294."""
    numbers = make_cell({1: 0.02, 2: 0.06}).numbers
    low, high = limits(numbers, share=True)
    assert low == 0.0 and high == pytest.approx(0.294 * 1.12, abs=1e-3)
    low, high = limits(numbers, share=False)
    assert low == pytest.approx(-0.214 - 0.09 * 0.508, abs=1e-3)
    assert limits(make_cell({1: 0.9, 2: 1.0}).numbers, share=True)[1] == 1.0
    # where neither end is near there is room on both sides
    low, high = limits([0.4, 0.6], share=True)
    assert (low, high) == pytest.approx((0.4 - 0.018, 0.6 + 0.024))


@pytest.mark.parametrize("size", [(11.4, 5.0), (5.6, 4.2)])
def test_numbers_and_names_of_the_axes_are_whole_and_apart(size: tuple[float, float]) -> None:
    """Both axes begin at 0, in the same corner, and the ECEs lie close: their numbers have four decimals."""
    x, y = "eval/accuracy", "calibration/facts_ece"
    run = Run(Path("r"), "care", 1, {}, {}, {}, {}, "")
    cells = {x: Cell({1: 0.0, 2: 0.9}, 0.45, None), y: Cell({1: 0.0, 2: 0.0042}, 0.0021, None)}
    row = Row("care", "care", [run], cells)
    picture = scatter(Comparison([row], [x, y]), x, y, size)
    assert picture is not None
    with style():
        FigureCanvasAgg(picture.figure).draw()
    axes = picture.figure.axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    ticks = [t.label1 for t in axes.xaxis.get_major_ticks() if left <= t.get_loc() <= right]
    ticks += [t.label1 for t in axes.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
    texts: list[Text] = [*ticks, axes.xaxis.label, axes.yaxis.label]
    shown = [(text.get_text(), text.get_window_extent()) for text in texts]
    assert {"accuracy", "FACTS ECE  (less is better)", "0.0000", "0.00"} <= {name for name, _ in shown}
    frame = picture.figure.bbox
    for name, box in shown:
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, name
    for (name, a), (other, b) in itertools.combinations(shown, 2):
        assert not a.overlaps(b), (name, other)
