"""Deals work out to the actors of a role."""

from __future__ import annotations

from typing import Any


def shares(actors: list[Any], items: int) -> list[tuple[Any, slice]]:
    """Each actor with its contiguous share of the items, even to one; actors without any are left out."""
    ends = [items * k // len(actors) for k in range(len(actors) + 1)]
    return [(actor, slice(a, b)) for actor, a, b in zip(actors, ends, ends[1:], strict=False) if b > a]
