"""Sets a run's metrics as Prometheus gauges: ``train/loss`` is ``carerl_train_loss``, labelled recipe, seed and run.

The caller hands in what makes a gauge: :mod:`carerl.actors.gauges` has Ray's, which its agents export with a further
``ray_`` in front.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from carerl.metrics import Metric
from carerl.metrics.table import STEP, find_metric

PREFIX = "carerl_"
LABELS = ("recipe", "seed", "run")
STEP_METRIC = Metric(STEP, "steps", "the last step done")


class Gauge(Protocol):
    """Holds the last value of something, under labels."""

    def set(self, value: float, tags: dict[str, str]) -> Any: ...


def gauge_name(metric: str) -> str:
    """Returns a name that Prometheus takes: letters, digits and underscores.

    >>> gauge_name("train/entropy_right"), gauge_name("eval/gsm8k/pass@16"), gauge_name("step")
    ('carerl_train_entropy_right', 'carerl_eval_gsm8k_pass_16', 'carerl_step')
    """
    return PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", metric)


class GaugeTracker:
    """Sets a gauge for each declared metric, and ``carerl_step``. A gauge is made at its first value, by
    ``make_gauge(name, description, label names)``. A value that is not finite is skipped: the gauge keeps the last one.
    After a failure, reported once, the tracker is off; metrics.jsonl has everything anyway."""

    def __init__(
        self,
        make_gauge: Callable[[str, str, tuple[str, ...]], Gauge],
        labels: Mapping[str, Any],
        warn: Callable[[str], None] = print,
    ) -> None:
        self._make_gauge = make_gauge
        self._labels = {name: str(labels[name]) for name in LABELS}
        self._gauges: dict[str, Gauge] = {}
        self._warn = warn
        self._off = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._off:
            return
        try:
            for name, value in {STEP: step, **metrics}.items():
                declared = STEP_METRIC if name == STEP else find_metric(name)
                if declared is not None and math.isfinite(value):
                    self._gauge(name, declared).set(float(value), tags=self._labels)
        except Exception as error:  # what is watched is worth more than the watching
            self._off = True
            self._warn(f"gauges are off for the rest of this run ({type(error).__name__}: {error})")

    def close(self, status: str = "completed") -> None:
        """Does nothing: the gauges keep their last values until their process ends."""

    def _gauge(self, name: str, metric: Metric) -> Gauge:
        if name not in self._gauges:
            description = f"{metric.meaning} ({metric.unit})"
            self._gauges[name] = self._make_gauge(gauge_name(name), description, LABELS)
        return self._gauges[name]
