"""Makes gauges of Ray: its agents export them for Prometheus, as ``ray_carerl_…``.

The process that makes a gauge records it. It is the driver, which must be connected to the cluster.
"""

from __future__ import annotations

from ray.util.metrics import Gauge


def ray_gauge(name: str, description: str, labels: tuple[str, ...]) -> Gauge:
    """Makes a gauge for :class:`carerl.tracking.gauges.GaugeTracker`."""
    return Gauge(name, description=description, tag_keys=labels)
