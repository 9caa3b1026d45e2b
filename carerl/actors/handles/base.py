"""What the handles share: how work is dealt out, and values that stay in Ray's object store.

No reference to an object leaves the handles. A loop holds a :class:`HeldBatch` or :class:`PublishedWeights` and passes
it on; only handles look inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HeldBatch:
    """A batch in the object store, put there once, with what the reference said of it.

    ``rows`` and ``width``: B and T of the batch. ``streams``: one object for each contiguous share of rows, in order;
    empty where the reference was not asked. ``hidden``: the streams are hidden states, from which exact divergences
    follow, and not log-probs.
    """

    batch: Any
    rows: int
    width: int
    streams: tuple[Any, ...] = ()
    hidden: bool = False

    @property
    def asked(self) -> bool:
        """True where the reference has scored the batch."""
        return bool(self.streams)


@dataclass(frozen=True)
class PublishedWeights:
    """All weights of the learner as it published them: buckets in the object store, and their checksum."""

    buckets: list[Any]
    checksum: int


def shares(actors: list[Any], items: int) -> list[tuple[Any, slice]]:
    """Returns each actor with its contiguous share of the items. Shares differ by one item at most; actors without any
    are left out."""
    ends = [items * k // len(actors) for k in range(len(actors) + 1)]
    return [(actor, slice(a, b)) for actor, a, b in zip(actors, ends, ends[1:], strict=False) if b > a]
