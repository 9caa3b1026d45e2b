"""Worker classes in this process: their methods run where they are called, and waiting gives back what it gets."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.actors import crew
from carerl.actors.health.asking import Asker


class Local:
    """An actor handle on an object of this process. ``before(method, arguments)`` is told of every call. A call to a
    concurrency group runs on a thread beside, one after the other, as in Ray. ``copies``: what goes in and out is
    copied, as between processes; otherwise both sides have the same objects."""

    def __init__(
        self,
        worker: Any,
        before: Callable[[str, tuple[Any, ...]], None] = lambda name, args: None,
        copies: bool = False,
    ) -> None:
        self.worker, self._before = worker, before
        self._sent: Callable[[Any], Any] = (lambda x: pickle.loads(pickle.dumps(x))) if copies else (lambda x: x)
        self._beside = ThreadPoolExecutor(1)

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            self._before(name, arguments)
            return self._sent(getattr(self.worker, name)(*self._sent(arguments)))

        def options(concurrency_group: str = "", **settings: Any) -> Any:
            beside = SimpleNamespace(remote=lambda *arguments: self._beside.submit(remote, *arguments))
            return beside if concurrency_group else SimpleNamespace(remote=remote)

        return SimpleNamespace(remote=remote, options=options)


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew.ray, "get", lambda references, timeout=None: references)
    monkeypatch.setattr(
        Asker, "_wait", lambda self, references, phase, seconds, fetch, along=(): [_value(r) for r in references]
    )
    monkeypatch.setattr(Asker, "ended", lambda self, references: all(r.done() for r in references))


def _value(reference: Any) -> Any:
    return reference.result() if isinstance(reference, Future) else reference
