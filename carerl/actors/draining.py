"""Nodes that are about to go.

Ray is told by whoever takes a node away (an autoscaler that was told of a preemption, a pod's preStop hook); the run is
told here while there is time to save. Ray has no public call for it yet: this is the one place that uses a private one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from ray._private.state import state

POLL_S = 3.0


def draining() -> set[str]:
    """The ids, in hex, of the nodes that Ray was told will go."""
    return set(state.get_draining_nodes())


@contextmanager
def watched(nodes: Collection[str], tell: Callable[[str], None]) -> Iterator[None]:
    """For the length of the block, ``tell`` hears once of the first of ``nodes`` that is about to go. It is called on a
    thread of its own."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            with contextlib.suppress(Exception):  # a head that does not answer is noticed by the loop, not here
                if going := draining() & set(nodes):
                    tell(f"node {min(going)[:8]} is being drained")
                    return

    thread = threading.Thread(target=watch, name="draining", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10.0)  # it must not ask a Ray that has been shut down; a head that is gone may not answer
