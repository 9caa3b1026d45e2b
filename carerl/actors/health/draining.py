"""Nodes that are about to go.

Ray is told by whoever takes a node away (an autoscaler that was told of a preemption, a pod's preStop hook); the run is
told here while there is time to save. Ray has no public call for it yet: this is the one place that uses a private one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

POLL_S = 3.0
BLIND = 3  # failures in a row: a head that does not answer for a moment is none


def draining() -> set[str]:
    """The ids, in hex, of the nodes that Ray was told will go."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


@contextmanager
def watched(
    nodes: Collection[str],
    tell: Callable[[str], None],
    say: Callable[[str], None] = lambda text: None,
    look: Callable[[], set[str]] = draining,
    poll_s: float = POLL_S,
) -> Iterator[None]:
    """For the length of the block, ``tell`` hears once of the first of ``nodes`` that is about to go, and ``say`` once
    that nobody can see whether one is. Both are called on a thread of their own."""
    over = threading.Event()

    def watch() -> None:
        failed = 0
        while not over.wait(poll_s):
            try:
                going = look() & set(nodes)
            except Exception as error:  # Ray's private call has changed, or its head does not answer
                failed += 1
                if failed == BLIND:
                    say(f"nodes that are about to go cannot be seen ({type(error).__name__}: {error}): unsaved steps "
                        "are lost with one")  # fmt: skip
                continue
            failed = 0 if failed < BLIND else failed
            if going:
                tell(f"node {min(going)[:8]} is being drained")
                return

    thread = threading.Thread(target=watch, name="draining", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10.0)  # it must not ask a Ray that has been shut down; a head that is gone may not answer
