"""Bounds calls that may never return: looking up a host's name, and calls to Ray when its head is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Done(Generic[T]):
    """Holds what a call returned (``value``) or raised (``error``); neither if it has not ``ended``."""

    ended: bool
    value: T | None = None
    error: Exception | None = None


def in_time(work: Callable[[], T], seconds: float) -> Done[T]:
    """Makes a call on a thread of its own, and returns what it returns or raises within ``seconds``. If it takes
    longer, the thread is left to itself."""
    found: list[Done[T]] = []

    def run() -> None:
        try:
            found.append(Done(True, work()))
        except Exception as error:
            found.append(Done(True, error=error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else Done(False)
