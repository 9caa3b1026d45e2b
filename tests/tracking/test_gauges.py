"""Metrics as Prometheus gauges. Ray's export of them needs a cluster and is not covered here."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from carerl.metrics import METRICS
from carerl.tracking.gauges import LABELS, GaugeTracker, gauge_name

RUN = {"recipe": "care_grpo_tiny", "seed": 3, "run": "care_grpo_tiny-s3"}

PLAIN = [name for name, metric in METRICS.items() if not metric.template]


class Recorder:
    """Keeps what it is given, as Prometheus' client would: one value a name and label set."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[float, dict[str, str]]] = {}
        self.made: list[tuple[str, str, tuple[str, ...]]] = []

    def __call__(self, name: str, description: str, labels: tuple[str, ...]) -> Any:
        self.made.append((name, description, labels))
        recorder = self

        class One:
            def set(self, value: float, tags: dict[str, str]) -> None:
                recorder.values[name] = (value, tags)

        return One()


def test_each_metric_is_one_gauge_with_its_last_value_and_labels() -> None:
    gauges = Recorder()
    tracker = GaugeTracker(gauges, RUN)
    for step in (1, 2):
        tracker.log(step, {"train/loss": 0.5 * step, "eval/gsm8k/accuracy": 0.25})
    labels = {"recipe": "care_grpo_tiny", "seed": "3", "run": "care_grpo_tiny-s3"}
    assert gauges.values == {
        "carerl_step": (2.0, labels),
        "carerl_train_loss": (1.0, labels),
        "carerl_eval_gsm8k_accuracy": (0.25, labels),
    }
    assert [name for name, *_ in gauges.made] == list(gauges.values)  # made once each
    assert all(names == LABELS and description.endswith(")") for _, description, names in gauges.made)


def test_what_is_not_finite_or_not_declared_sets_nothing() -> None:
    gauges = Recorder()
    tracker = GaugeTracker(gauges, RUN)
    tracker.log(1, {"train/loss": 0.5, "train/novel": 1.0})
    tracker.log(2, {"train/loss": math.nan, "train/grad_norm": math.inf})
    assert {name: value for name, (value, _) in gauges.values.items()} == {"carerl_step": 2.0, "carerl_train_loss": 0.5}


def test_names_are_prometheus_names_and_none_is_another_ones() -> None:
    names = {name.replace("{", "").replace("}", "") for name in METRICS}
    made = {gauge_name(name) for name in names}
    assert len(made) == len(names)
    assert all(re.fullmatch(r"carerl_[a-zA-Z_][a-zA-Z0-9_]*", name) for name in made)


def test_a_failure_is_told_once_and_the_run_goes_on() -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no cluster")

    said: list[str] = []
    tracker = GaugeTracker(broken, RUN, said.append)
    for step in range(3):
        tracker.log(step, {"train/loss": 1.0})
    tracker.close()
    assert said == ["gauges are off for the rest of this run (RuntimeError: no cluster)"]


def test_rays_gauges_take_the_names_and_labels(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Ray discards a gauge whose name it does not like, with a warning; labels that were not declared are an error."""
    from carerl.actors.gauges import ray_gauge

    said: list[str] = []
    tracker = GaugeTracker(ray_gauge, RUN, said.append)
    tracker.log(1, dict.fromkeys(PLAIN, 1.0) | {"eval/gsm8k/pass@16": 1.0})
    assert said == [] and [str(w.message) for w in recwarn if "Invalid metric name" in str(w.message)] == []
    assert len(tracker._gauges) == len(PLAIN) + 2
    assert all(gauge._metric is not None for gauge in tracker._gauges.values())  # type: ignore[attr-defined]
