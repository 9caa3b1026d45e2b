"""Asks the reference, which scores what the policy sampled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from carerl.actors.handles.base import HeldBatch, shares
from carerl.actors.health.asking import Asker
from carerl.config.schema import RunConfig


class Reference:
    """The actors that hold the frozen reference."""

    def __init__(self, actors: list[Any], ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        """Starts loading on every actor; returns what to wait for."""
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def head(self) -> Any:
        """Waits for the frozen head (V, D); returns a reference to it for :meth:`Learner.set_reference_head`."""
        found = self._actors[0].head.remote()
        self._ask.wait([found], "load")
        return found

    def score(self, held: HeldBatch, hidden: bool) -> HeldBatch:
        """Has contiguous shares of a batch scored, one an actor; returns the batch with the streams.

        ``hidden``: the last hidden states, else log-probs of the sampled tokens. Waits until the streams exist: a
        learner that holds a stream which is still to come could not be asked whether it is alive.
        """
        parts = shares(self._actors, held.rows)
        found = [actor.score.remote(held.batch, part.start, part.stop, hidden) for actor, part in parts]
        self._ask.wait(found, "reference")
        return replace(held, streams=tuple(found), hidden=hidden)
