"""Holds what the handles share: a base class, how work is dealt out, and values that stay in Ray's object store.

No object reference leaves the handles. A loop holds a :class:`HeldBatch` and passes it on; only handles look inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from carerl.actors.health.asking import Asker
from carerl.backends.hashed import Written
from carerl.config.schema import RunConfig
from carerl.loss.batching import Minibatch


class Handle:
    """The driver's side of a role: sends calls to its actors and waits for them."""

    def __init__(self, actors: list[Any], ask: Asker | None = None) -> None:
        self._actors = actors
        self._ask = ask or Asker()

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        """Starts loading settings and weights on every actor; returns what to wait for."""
        return [actor.load.remote(config, model_dir) for actor in self._actors]


OF_ANCHORS = "anchors"  # hidden states of anchors alone


@dataclass(frozen=True)
class HeldBatch:
    """Points to a batch in the object store, put there once, and says what the reference gives for it.

    ``width``: T of the batch. ``lengths_B``: tokens of each row. ``minibatches``: those that it is to be trained in, if
    it is. ``owners``: the rank of the learner that works on each row, of ``ranks``. ``scores``: what the reference
    gives, '' for nothing: ``hidden`` states, from which exact divergences follow, those of ``anchors`` alone, or
    ``logprobs``. ``streams``: the
    objects that hold it, for each rank its own; empty if the ranks compute it themselves.
    """

    batch: Any
    width: int
    lengths_B: Tensor
    minibatches: tuple[Minibatch, ...]
    owners: tuple[int, ...]
    ranks: int
    scores: str = ""
    streams: tuple[tuple[Any, ...], ...] = ()

    @property
    def rows(self) -> int:
        """B of the batch."""
        return len(self.owners)

    @property
    def asked(self) -> bool:
        """True if the reference was asked for scores of all rows of the batch."""
        return self.scores not in ("", OF_ANCHORS)

    @property
    def hidden(self) -> bool:
        """True if the reference's hidden states are among them."""
        return self.scores == "hidden"

    @property
    def own_scores(self) -> str:
        """What the learner's ranks compute with a reference of their own."""
        return "" if self.streams else self.scores


class Writing:
    """Stands for files that actors are writing beside their other work."""

    def __init__(self, ask: Asker, pending: list[Any], phase: str) -> None:
        self._ask, self._pending, self._phase = ask, pending, phase

    def ended(self) -> bool:
        """Returns True once all actors have written their files, or have failed to. Does not wait."""
        return self._ask.ended(self._pending)

    def files(self) -> dict[str, Written]:
        """Waits until all files are on the disk; returns them by their paths. Raises ActorFailed."""
        return {path: written for files in self._ask(self._pending, self._phase) for path, written in files.items()}


def shares(actors: list[Any], items: int) -> list[tuple[Any, slice]]:
    """Returns each actor with its contiguous share of the items. Shares differ by one item at most. An actor without
    items is left out."""
    ends = [items * k // len(actors) for k in range(len(actors) + 1)]
    return [(actor, slice(a, b)) for actor, a, b in zip(actors, ends, ends[1:], strict=False) if b > a]
