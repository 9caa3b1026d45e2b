"""A metric that a plugin adds with one line is shown wherever the line says, and nothing else was edited."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import load
from carerl.controller.sweeps.sweep import _headline
from carerl.metrics import METRICS
from carerl.metrics.table import find_metric, groups, summary_rows
from carerl.report.run_page import write_report
from carerl.tracking.display import PlainDisplay
from carerl.tracking.gauges import GaugeTracker
from carerl.tracking.workspace import declared_names, logged_names, sections
from tests.metrics.declared import undeclared
from tests.runs.synthetic_runs import config, make_run

PLUGIN = """
from carerl.metrics import At, Metric, declare

declare(
    Metric("novel/surprise", "nats", "how new the responses are", label="surprise", better=-1,
           shown={"step": At(100), "curves/novelty": At(0, "of all"), "workspace/novelty": At(),
                  "curves/health": At(9, "surprising")}),
    Metric("eval/novelty", "share", "new responses", label="novelty", note="Novelty: new responses.",
           shown={"headline": At(100), "summary": At(100), "sweep": At(100, "new"), "workspace/evaluations": At(100)}),
)
"""
NAMES = {"novel/surprise", "eval/novelty"}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_novelty.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(METRICS)
    yield "my_novelty"
    METRICS.clear()
    METRICS.update(before)
    sys.modules.pop("my_novelty", None)


class Gauges:
    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def __call__(self, name: str, description: str, labels: tuple[str, ...]) -> Any:
        self.made[name] = description
        return self

    def set(self, value: float, tags: dict[str, str]) -> None: ...


def test_a_plugins_metric_is_shown_wherever_its_line_says(plugin: str, tmp_path: Path) -> None:
    assert undeclared(NAMES) == sorted(NAMES)
    load(["recipe=care_grpo_tiny", f"plugins=[{plugin}]"])
    assert undeclared(NAMES) == [] and "novel" in groups()

    gauges = Gauges()
    GaugeTracker(gauges, {"recipe": "r", "seed": 1, "run": "x"}).log(1, dict.fromkeys(NAMES, 0.5))
    assert gauges.made["carerl_novel_surprise"] == "how new the responses are (nats)"

    shown = io.StringIO()
    display = PlainDisplay(1, "title", file=shown)
    display.step(1, {"rollout/reward": 0.25, "novel/surprise": 0.5})
    display.evaluation(1, {"eval/accuracy": 0.5, "eval/novelty": 0.125})
    assert "reward 0.250 · surprise 0.500" in shown.getvalue()
    assert "accuracy 0.500 · novelty 0.125" in shown.getvalue()

    ends = ({"eval/accuracy": 0.25, "eval/novelty": 0.5}, {"eval/accuracy": 0.5, "eval/novelty": 0.75})
    assert ("eval/novelty", 0.5, 0.75) in summary_rows(*ends)
    assert _headline(ends[1]) == " · accuracy 0.500 · new 0.750"

    run = make_run(tmp_path / "runs", config("care_grpo_tiny", 1, "srkl"), ends[1], base=ends[0])
    rows = [{"step": step, "novel/surprise": 0.5, "rollout/unparsed_fraction": 0.1} for step in range(3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(run).read_text()
    assert ">Novelty<" in page and ">of all<" in page and ">surprising<" in page
    assert "Novelty: new responses." in page

    names, _ = logged_names([run])
    assert names >= {"novel/surprise"} and declared_names() >= NAMES
    panels = {section.title: [panel.title for panel in section.panels] for section in sections({*names, *NAMES})}
    assert panels["Novelty"] == ["surprise"] and "novelty" in panels["Evaluations"]


def test_a_plugins_line_leaves_with_the_test_that_loaded_it() -> None:
    assert find_metric("novel/surprise") is None
