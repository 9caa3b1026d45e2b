"""Pictures: the numbers that go into them, and that they are SVG of the page's colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import carerl.tasks  # noqa: F401 (declares what its tasks log)
from carerl.loss.strata import COEFFICIENT_BINS
from carerl.report.pictures.curves import PANELS, coefficient_histogram, curve, panels, time_split
from carerl.report.pictures.reliability import reliability
from carerl.report.smoothing import running_median, smooth
from tests.runs.synthetic_runs import bins


def paths(svg: str) -> list[str]:
    return re.findall(r'\bd="([^"]+)"', svg)


def coordinates(svg: str, dashes: str) -> list[list[tuple[float, float]]]:
    """The points of the lines whose dash pattern matches, one list a line."""
    lines = re.findall(rf'<path d="([^"]+)" clip-path="[^"]+" style="[^"]*stroke-dasharray: {dashes}', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", line)] for line in lines]


def test_evaluations_on_fewer_questions_have_a_line_of_their_own() -> None:
    """Full at 0 and 100, fewer at 25, 50 and 75: five points of FACTS, and of the floor, in two lines each."""
    panel = next(panel for panel in PANELS if panel.biased)
    assert panel.name == "ece"
    rows = [
        {"step": s, "calibration/facts_ece": 0.1, "calibration/facts_ece_floor": 0.02} for s in (0, 25, 50, 75, 100)
    ]
    together = curve(panel, rows)
    apart = curve(panel, rows, {25: 4, 50: 4, 75: 4})
    assert together is not None and apart is not None
    dotted = r"1\.2,2\.4"  # 1 and 2 line widths of 1.2
    assert coordinates(together, dotted) == []
    facts, floor = coordinates(apart, dotted)
    assert len(facts) == len(floor) == 3
    quarter = (facts[2][0] - facts[0][0]) / 2
    assert facts[1][0] - facts[0][0] == pytest.approx(quarter, abs=1e-3)
    # the reference lies below: its y in the picture, counted from above, is greater
    assert floor[0][1] > facts[0][1]
    (dashed,) = coordinates(apart, r"3\.6,2\.4")  # the reference on all questions: 0 and 100
    assert dashed[1][0] - dashed[0][0] == pytest.approx(4 * quarter, abs=1e-3) and dashed[0][1] == floor[0][1]
    assert apart.count(">FACTS<") == apart.count(">FACTS, perfect model<") == 1
    # other panels do not depend on how many were asked
    accuracy = next(panel for panel in PANELS if panel.name == "evaluation")
    rows = [{"step": s, "eval/accuracy": 0.5} for s in (0, 50, 100)]
    assert curve(accuracy, rows, {50: 4}) == curve(accuracy, rows)


def test_a_reference_alone_is_no_curve() -> None:
    panel = next(panel for panel in PANELS if panel.references([]))
    assert curve(panel, [{"step": 0.0, "calibration/facts_ece_floor": 0.02}]) is None


def test_a_measure_of_every_suite_has_a_line_for_each_suite_that_was_logged() -> None:
    panel = next(panel for panel in panels() if panel.name == "step_entropy_gap")
    rows = [{"step": s, "eval/q3/step_entropy_gap": 0.1 * s, "eval/math500/step_entropy_gap": 0.2} for s in (0, 1, 2)]
    drawn = curve(panel, rows)
    assert drawn is not None and drawn.count(">MATH-500<") == drawn.count(">questions of 3 steps<") == 1
    assert curve(panel, [{"step": 0.0, "eval/q3/step_right": 0.5}]) is None


def test_a_curve_is_drawn_only_of_what_was_logged() -> None:
    panel = next(panel for panel in PANELS if panel.name == "entropy")
    assert curve(panel, [{"step": 1.0, "rollout/reward": 0.5}]) is None
    svg = curve(panel, [{"step": float(i), "train/entropy": 0.1 * i} for i in range(5)])
    assert svg is not None and "training rollouts" in svg and "evaluation" not in svg
    ElementTree.fromstring(svg)


def test_zeros_do_not_break_a_logarithmic_axis() -> None:
    panel = next(panel for panel in PANELS if panel.log)
    rows = [{"step": float(i), "rollout/mismatch_mean": 0.0} for i in range(5)]
    assert curve(panel, rows) is None
    svg = curve(panel, [*rows, {"step": 6.0, "rollout/mismatch_mean": 1e-6}])
    assert svg is not None
    assert not any("nan" in path or "inf" in path for path in paths(svg))


def test_time_split_stacks_to_the_step() -> None:
    rows = [{"step": float(i), "time/step": 1.0, "time/generate": 0.25, "time/train": 0.5} for i in range(4)]
    svg = time_split(rows)
    assert svg is not None
    labels = [label for label in ("generate", "train", "sync", "other") if f">{label}<" in svg]
    assert labels == ["generate", "train", "other"]  # .25 are nobody's; nothing was synced
    assert time_split([{"step": 1.0}]) is None


def test_the_histogram_compares_the_first_tenth_of_the_steps_with_the_last() -> None:
    """20 steps: all tokens in bin 6 during the first two, in bin 0 during the last two, elsewhere in between."""
    names = [f"regularizer/coefficient_bin_{name}" for name in COEFFICIENT_BINS]
    where = [6, 6, *[3] * 16, 0, 0]
    rows = [{"step": 1.0 + i, **{n: float(k == at) for k, n in enumerate(names)}} for i, at in enumerate(where)]
    svg = coefficient_histogram([{"step": 0.0}, *rows])
    assert svg is not None and ">first steps<" in svg and ">last steps<" in svg
    closed = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", path) for path in paths(svg) if "z" in path]
    bars = [[(float(x), float(y)) for x, y in points] for points in closed if len(points) == 4]
    tall = [bar[0][0] for bar in bars if max(y for _, y in bar) - min(y for _, y in bar) > 50]
    assert len(tall) == 2 and tall[0] > tall[1], "the first steps' bar stands right of the last steps'"
    alone = coefficient_histogram(rows[:1])
    assert alone is not None and ">first steps<" not in alone
    assert coefficient_histogram([{"step": 1.0, "train/loss": 2.0}]) is None


def test_reliability_shows_states_side_by_side() -> None:
    svg = reliability("facts", {"base": bins(0.03), "step 200": bins(0.05), "empty": []})
    assert svg is not None
    assert [ece for ece in ("ECE 0.030", "ECE 0.050") if ece in svg] == ["ECE 0.030", "ECE 0.050"]
    assert "empty" not in svg
    assert reliability("facts", {"base": []}) is None


def test_the_ece_of_a_diagram_is_the_weighted_gap_of_its_bins() -> None:
    """(3 · .4 + 1 · .1 + 0 · .9) / 4 = .325"""
    made = [
        {"low": 0.9, "high": 1.0, "confidence": 0.9, "accuracy": 0.5, "count": 3},
        {"low": 0.2, "high": 0.3, "confidence": 0.2, "accuracy": 0.3, "count": 1},
        {"low": 0.0, "high": 0.1, "confidence": 0.0, "accuracy": 0.9, "count": 0},
    ]
    svg = reliability("facts", {"base": made})
    assert svg is not None and "ECE 0.325" in svg


def test_bins_of_unique_vote_shares_have_no_width_and_are_still_drawn() -> None:
    made = [{"low": s / 16, "high": s / 16, "confidence": s / 16, "accuracy": 0.5, "count": 5} for s in (4, 8, 16)]
    svg = reliability("facts", {"base": made})
    assert svg is not None
    # a bar is a closed path of straight lines; its width is that of its points
    bars = [path for path in paths(svg) if path.strip().endswith("z") and "C" not in path]
    widths = [max(xs) - min(xs) for xs in ([float(x) for x in re.findall(r"[ML] ([\d.]+) ", bar)] for bar in bars)]
    assert len(widths) >= 3 and min(widths) > 2


def test_smoothing_keeps_length_and_a_straight_line() -> None:
    line = np.arange(200, dtype=float)
    assert smooth(line)[5:-5] == pytest.approx(line[5:-5])
    assert len(smooth(line)) == len(running_median(line)) == 200
    spike = np.zeros(200)
    spike[100] = 1000
    assert running_median(spike).max() == 0
    gap = line.copy()
    gap[50] = np.nan
    assert np.isfinite(smooth(gap)).all()
