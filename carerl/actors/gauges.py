"""Ray's gauges: what a run logs, in the metrics that Ray's agents export for Prometheus (as ``ray_carerl_…``).

They are recorded by the process that makes them, the driver, which must be connected to the cluster.
"""

from __future__ import annotations

from ray.util.metrics import Gauge


def ray_gauge(name: str, description: str, labels: tuple[str, ...]) -> Gauge:
    """Makes a gauge for :class:`carerl.tracking.gauges.GaugeTracker`."""
    return Gauge(name, description=description, tag_keys=labels)
