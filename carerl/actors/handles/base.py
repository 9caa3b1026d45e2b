"""Holds what the handles share: a base class, how work is dealt out, and values that stay in Ray's object store.

No object reference leaves the handles. A loop holds a :class:`HeldBatch` or :class:`PublishedWeights` and passes it on;
only handles look inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carerl.actors.health.asking import Asker
from carerl.config.schema import RunConfig


class Handle:
    """The driver's side of a role: sends calls to its actors and waits for them."""

    def __init__(self, actors: list[Any], ask: Asker | None = None) -> None:
        self._actors = actors
        self._ask = ask or Asker()

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        """Starts loading settings and weights on every actor; returns what to wait for."""
        return [actor.load.remote(config, model_dir) for actor in self._actors]


@dataclass(frozen=True)
class HeldBatch:
    """Points to a batch in the object store, put there once, and to the reference's scores of it.

    ``rows`` and ``width``: B and T of the batch. ``streams``: one object for each contiguous share of rows, in order;
    empty if the reference did not score the batch. ``hidden``: True if the streams are hidden states, from which exact
    divergences follow; False if they are log-probs.
    """

    batch: Any
    rows: int
    width: int
    streams: tuple[Any, ...] = ()
    hidden: bool = False

    @property
    def asked(self) -> bool:
        """True if the reference has scored the batch."""
        return bool(self.streams)


@dataclass(frozen=True)
class PublishedWeights:
    """Points to all weights of the learner as it published them: buckets in the object store, and their checksum."""

    buckets: list[Any]
    checksum: int


def shares(actors: list[Any], items: int) -> list[tuple[Any, slice]]:
    """Returns each actor with its contiguous share of the items. Shares differ by one item at most. An actor without
    items is left out."""
    ends = [items * k // len(actors) for k in range(len(actors) + 1)]
    return [(actor, slice(a, b)) for actor, a, b in zip(actors, ends, ends[1:], strict=False) if b > a]
