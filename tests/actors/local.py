"""Worker classes in this process: their methods run where they are called, and waiting gives back what it gets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.actors import crew
from carerl.actors.health.asking import Asker


class Local:
    """An actor handle on an object of this process. ``before(method, arguments)`` is told of every call."""

    def __init__(self, worker: Any, before: Callable[[str, tuple[Any, ...]], None] = lambda name, args: None) -> None:
        self._worker, self._before = worker, before

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            self._before(name, arguments)
            return getattr(self._worker, name)(*arguments)

        return SimpleNamespace(remote=remote)


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew.ray, "get", lambda references, timeout=None: references)
    monkeypatch.setattr(Asker, "_wait", lambda self, references, phase, seconds, fetch: references)
