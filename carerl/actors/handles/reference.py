"""Asks the reference, which scores what the policy sampled."""

from __future__ import annotations

from typing import Any

from carerl.actors.handles.base import shares
from carerl.actors.health.asking import Asker
from carerl.config.schema import RunConfig


class Reference:
    def __init__(self, actors: list[Any], ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def head(self) -> Any:
        """A reference to the frozen head (V, D), once it is there."""
        found = self._actors[0].head.remote()
        self._ask.wait([found], "load")
        return found

    def score(self, batch: Any, rows: int, with_hidden: bool) -> list[Any]:
        """References to the streams of contiguous shares of a batch (itself a reference, of ``rows`` rows), one an
        actor, in order, once they are there: a learner that was given one which is still to come could not be asked
        whether it is alive."""
        parts = shares(self._actors, rows)
        found = [actor.score.remote(batch, part.start, part.stop, with_hidden) for actor, part in parts]
        self._ask.wait(found, "reference")
        return found
