"""Which names of a run the table of metrics does not have."""

from __future__ import annotations

from collections.abc import Iterable

from carerl.metrics.table import STEP, find_metric


def undeclared(names: Iterable[str]) -> list[str]:
    """Returns the names without a line; ``step``, the axis, needs none."""
    return sorted(name for name in set(names) if name != STEP and find_metric(name) is None)
