"""Calls that may never return, waited for a while: a name's look-up, and Ray's own where its head is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Done(Generic[T]):
    """``value`` or ``error``; neither is there where ``ended`` is false."""

    ended: bool
    value: T | None = None
    error: Exception | None = None


def in_time(work: Callable[[], T], seconds: float) -> Done[T]:
    """What a call returns or raises within ``seconds``, on a thread that is left to itself where it takes longer."""
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
