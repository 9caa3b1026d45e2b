"""Notices that the cluster's head does not answer any more.

After a minute without the head Ray ends the driver from C++: no summary, no message. So the run is told while there is
time to finish the step and to save, which need no head.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

POLL_S = 3.0
LOST_S = 25.0  # without an answer, after which the run is told to save: a head that is replaced may be back by then
GONE_S = 45.0  # after which no call is waited for any more; Ray's own minute begins with its first failure


class Head:
    """Asks the head, again and again. ``tell`` is called once, on another thread, when the head does not answer.
    ``look`` asks it something, and may raise or never return."""

    def __init__(
        self,
        tell: Callable[[str], None],
        look: Callable[[], object] = lambda: ray.nodes(),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._look, self._now = tell, look, now
        self._heard = now()
        self._over = threading.Event()
        self._watching = False

    def silent_s(self) -> float:
        """Returns for how many seconds the head has not answered."""
        return self._now() - self._heard if self._watching else 0.0

    def lost(self) -> bool:
        """Returns True once the run was told to end because of it: nothing that needs the head works any more."""
        return self.silent_s() > LOST_S

    def gone(self) -> str:
        """Returns in words why it is useless to wait for the head; '' while it is not."""
        silent = self.silent_s()
        return f"it has not answered for {silent:.0f} s: it has died, or cannot be reached" if silent > GONE_S else ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches the head for the length of the block."""
        self._heard, self._watching = self._now(), True
        threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._ask, self._judge)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(0.1 if self.silent_s() > 2 * POLL_S else 10.0)  # it must not ask a Ray that is shut down
            self._watching = False

    def _ask(self) -> None:
        while not self._over.wait(POLL_S):
            try:
                self._look()
            except Exception:  # whatever Ray raises here is no answer
                continue
            self._heard = self._now()

    def _judge(self) -> None:
        """Calls ``tell``. Has a thread of its own, because the one that asks may wait for ever."""
        while not self._over.wait(1.0):
            if self.silent_s() > LOST_S:
                self._tell(f"the head of the Ray cluster has not answered for {self.silent_s():.0f} s")
                return
