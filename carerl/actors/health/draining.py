"""Notices nodes that are about to go, while there is time to save.

Whoever takes a node away tells Ray (an autoscaler that heard of a preemption, a pod's preStop hook). Ray has no public
call to ask for it yet: only this file uses a private one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

POLL_S = 3.0
BLIND = 3  # failures in a row that count as one: a head may not answer for a moment


def draining() -> set[str]:
    """Returns the ids, in hex, of the nodes that Ray was told will go."""
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
    """Watches ``nodes`` for the length of the block. Calls ``tell`` once, with the reason, when the first of them is
    about to go; calls ``say`` once if that cannot be seen. Both are called on a thread of their own."""
    over = threading.Event()

    def watch() -> None:
        failed = 0
        while not over.wait(poll_s):
            try:
                going = look() & set(nodes)
            except Exception as error:  # Ray's private call has changed, or its head does not answer
                failed += 1
                if failed == BLIND:
                    say(f"it cannot be seen whether a node is about to go ({type(error).__name__}: {error}): if one "
                        "goes, unsaved steps are lost")  # fmt: skip
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
