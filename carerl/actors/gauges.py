"""Ray's gauges: what a run logs, in the metrics that Ray's agents export for Prometheus (as ``ray_carerl_…``).

They are recorded by the process that makes them, the driver, which must be connected to the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.util.metrics import Gauge

from carerl.report.gauges import GaugeTracker


def ray_gauges(labels: Mapping[str, Any], warn: Callable[[str], None] = print) -> GaugeTracker:
    """A tracker for :class:`carerl.report.trackers.Trackers`. ``labels``: recipe, seed and run (its name)."""
    return GaugeTracker(
        lambda name, description, names: Gauge(name, description=description, tag_keys=names), labels, warn
    )
