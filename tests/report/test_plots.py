"""Pictures: the numbers that go into them, and that they are SVG of the page's colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from carerl.report.plots import PANELS, _running_median, _smooth, bins_ece, curve, reliability, time_split
from tests.report.synthetic_runs import bins


def paths(svg: str) -> list[str]:
    return re.findall(r'\bd="([^"]+)"', svg)


def test_bins_ece_is_the_weighted_gap() -> None:
    made = [
        {"confidence": 0.9, "accuracy": 0.5, "count": 3},
        {"confidence": 0.2, "accuracy": 0.3, "count": 1},
        {"confidence": 0.0, "accuracy": 0.0, "count": 0},
    ]
    assert bins_ece(made) == pytest.approx((3 * 0.4 + 1 * 0.1) / 4)
    assert bins_ece(bins(0.05)) == pytest.approx(0.05)
    assert np.isnan(bins_ece([]))


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


def test_reliability_shows_states_side_by_side() -> None:
    svg = reliability("facts", {"base": bins(0.03), "step 200": bins(0.05), "empty": []})
    assert svg is not None
    assert [ece for ece in ("ECE 0.030", "ECE 0.050") if ece in svg] == ["ECE 0.030", "ECE 0.050"]
    assert "empty" not in svg
    assert reliability("facts", {"base": []}) is None


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
    assert _smooth(line)[5:-5] == pytest.approx(line[5:-5])
    assert len(_smooth(line)) == len(_running_median(line)) == 200
    spike = np.zeros(200)
    spike[100] = 1000
    assert _running_median(spike).max() == 0
    gap = line.copy()
    gap[50] = np.nan
    assert np.isfinite(_smooth(gap)).all()
