"""Reserves room for a run's actors: all of it, or none.

A run reserves its resources as one Ray placement group before it starts an actor. If two runs want the same GPUs, one
then waits for the other; otherwise each could hold half of them for ever. And a cluster with an autoscaler sees at once
everything that a run needs.

Actors that share a GPU have one bundle together, of that GPU: Ray takes both their shares from it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from carerl.actors.health.timeouts import in_time
from carerl.config.roles import ActorGroup
from carerl.types import RunError

FREE_TIMEOUT_S = 300.0  # in which resources that others hold must become free
POLL_S = 1.0
REMOVE_S = 5.0
TELL_EVERY_S = 30.0


class NotPlaced(RunError):
    """Says that the cluster does not hand out what the plan needs."""


@dataclass(frozen=True)
class Room:
    """Holds what is reserved. ``options``: for each role the arguments of ``.options()`` that place its actors, in
    order. ``nodes``: the ids of the nodes that the room lies on."""

    options: dict[str, list[dict[str, Any]]]
    nodes: frozenset[str]


@contextmanager
def reserved(
    groups: Sequence[ActorGroup], patience: float, say: Callable[[str], None], check: Callable[[], None]
) -> Iterator[Room]:
    """Reserves room for these actors, on as few nodes as hold them all, until the end of the block or of this process.

    Waits for it, ``patience`` seconds longer than :data:`FREE_TIMEOUT_S`. Meanwhile calls ``say`` now and then with
    what the cluster has, and ``check`` every second, which may raise. Raises NotPlaced."""
    bundles = [bundle for group in groups for bundle in _bundles(group, groups) if bundle]
    if not bundles:
        yield Room(_options(None, groups, []), frozenset())
        return
    held = placement_group(bundles, strategy="PACK")
    try:
        _wait(held, _total(bundles), FREE_TIMEOUT_S + patience, say, check)
        nodes = placement_group_table(held)["bundles_to_node_id"]
        indices = by_node(bundles, [nodes[index] for index in range(len(bundles))])
        yield Room(_options(held, groups, indices), frozenset(nodes.values()))
    finally:
        # The head may be gone. That must neither hide what ended the run nor keep it from ending.
        in_time(lambda: remove_placement_group(held), REMOVE_S)


def _bundle(group: ActorGroup) -> dict[str, float]:
    """Returns what one actor takes, without shares of 0, which Ray refuses."""
    return {kind: share for kind, share in (("CPU", group.cpus_each), ("GPU", group.gpus_each)) if share}


def _bundles(group: ActorGroup, groups: Sequence[ActorGroup]) -> list[dict[str, float]]:
    """Returns what is reserved for each actor of a group and for those that share it; nothing for the latter."""
    if group.shares_with:
        return []
    guests = [_bundle(guest) for guest in groups if guest.shares_with == group.role]
    total = _total([_bundle(group), *guests])
    return [{kind: round(share, 4) for kind, share in total.items()}] * group.count  # Ray counts to four digits


def by_node(bundles: Sequence[Mapping[str, float]], nodes: Sequence[str]) -> list[int]:
    """Returns for each actor the index of the bundle that it uses. ``nodes``: where Ray has put each bundle.

    Ray packs bundles of one shape in any order, so that the learner's ranks, which talk most, could be spread over
    several nodes though one would hold them all. Actors of one shape therefore take their bundles node by node, in the
    order of roles, beginning with the node that has most of them.

    >>> by_node([{"GPU": 1}] * 4, ["a", "b", "b", "b"])
    [1, 2, 3, 0]
    """
    alike: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for index, bundle in enumerate(bundles):
        alike.setdefault(tuple(sorted(bundle.items())), []).append(index)
    taken = [0] * len(bundles)
    for indices in alike.values():
        most = Counter(nodes[index] for index in indices)
        order = sorted(indices, key=lambda index: (-most[nodes[index]], nodes[index], index))
        for index, use in zip(indices, order, strict=True):
            taken[index] = use
    return taken


def _options(held: Any, groups: Sequence[ActorGroup], indices: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Returns for each role the arguments of ``.options()`` of its actors. ``indices``: the bundle of each actor that
    has one of its own, in order."""
    using = iter(indices)
    places = [[next(using) if bundle else None for bundle in _bundles(group, groups)] for group in groups]
    by_role = {group.role: own for group, own in zip(groups, places, strict=True)}
    found: dict[str, list[dict[str, Any]]] = {}
    for group, own in zip(groups, places, strict=True):
        for index in by_role[group.shares_with] if group.shares_with else own:
            options: dict[str, Any] = {"num_cpus": group.cpus_each, "num_gpus": group.gpus_each}
            if index is not None and _bundle(group):
                place = PlacementGroupSchedulingStrategy(held, placement_group_bundle_index=index)
                options["scheduling_strategy"] = place
            found.setdefault(group.role, []).append(options)
    return found


def _wait(
    held: Any, total: Mapping[str, float], seconds: float, say: Callable[[str], None], check: Callable[[], None]
) -> None:
    """Waits until the placement group is there. Raises NotPlaced."""
    begin = told = time.monotonic()
    while not held.wait(POLL_S):
        check()
        now = time.monotonic()
        if now - begin >= seconds:
            raise NotPlaced(
                f"after {seconds:.0f} s the cluster has not handed out {_listing(total)}. {_there(total)}: "
                "something else holds the rest, nodes are missing (cluster.wait_seconds says how long to wait for "
                "them), or no node is large enough for one actor"
            )
        if now - told >= TELL_EVERY_S:
            told = now
            say(f"waiting for {_listing(total)}; {_there(total)} ({now - begin:.0f} s of at most {seconds:.0f})")


def _there(total: Mapping[str, float]) -> str:
    """Returns in words how much the cluster has of what is wanted."""
    has, free = ray.cluster_resources(), ray.available_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    return f"{nodes} nodes have {_listing({kind: has.get(kind, 0.0) for kind in total})}, free are " + _listing(
        {kind: free.get(kind, 0.0) for kind in total}
    )


def _total(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for bundle in bundles:
        for kind, share in bundle.items():
            total[kind] = total.get(kind, 0.0) + share
    return total


def _listing(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{round(amount, 3):g} {kind}s" for kind, amount in resources.items())
