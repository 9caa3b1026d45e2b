"""Counts the work that this process has done, for whoever waits for it.

An engine counts decoding steps, a learner micro-batches, a sync tensors, a grader answers. The count only grows. If it
stands still for minutes, the process is stuck; how long a whole call takes does not show that.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Pulse:
    """A sign of life of a process."""

    steps: int  # pieces of work done so far
    stack: str  # where its working thread is


_counter = itertools.count(1)
_done = 0


def step() -> None:
    """Counts one more piece of work as done. Costs less than a microsecond."""
    global _done
    _done = next(_counter)


def steps() -> int:
    """Returns how many pieces of work this process has done so far."""
    return _done
