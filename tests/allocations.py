"""What a function allocates on the CPU: seen by the profiler, so inside operations and backward passes too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile


class Allocations(NamedTuple):
    """Bytes of the largest single allocation, and the most that was alive at one time beyond what was there before."""

    largest: int
    peak: int


def allocations(function: Callable[[], Any]) -> Allocations:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = largest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()  # negative where memory is given back
        peak, largest = max(peak, alive), max(largest, event.nbytes())
    return Allocations(largest, peak)
