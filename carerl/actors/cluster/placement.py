"""Room for a run's actors: all of it, or none.

A run reserves its resources as one Ray placement group before it starts an actor. Two runs that want the same GPUs then
wait one for the other, where each would otherwise hold half of them for ever; and a cluster with an autoscaler sees
everything that a run needs at once.
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

from carerl.actors.health.patience import in_time
from carerl.config.roles import ActorGroup
from carerl.types import RunError

FREE_TIMEOUT_S = 300.0  # that what others hold may take to become free
POLL_S = 1.0
REMOVE_S = 5.0
TELL_EVERY_S = 30.0


class NotPlaced(RunError):
    """The cluster does not hand out what the plan needs."""


@dataclass(frozen=True)
class Room:
    """What is reserved. ``options``: of each role those of ``.options()`` that put its actors, in order, onto it;
    ``nodes``: the ids of the nodes that it lies on."""

    options: dict[str, list[dict[str, Any]]]
    nodes: frozenset[str]


@contextmanager
def reserved(
    groups: Sequence[ActorGroup], patience: float, say: Callable[[str], None], check: Callable[[], None]
) -> Iterator[Room]:
    """Room for these actors, on as few nodes as hold them all, until the end of the block or of this process.

    It is waited for, ``patience`` seconds longer than :data:`FREE_TIMEOUT_S`; ``say`` is told now and then what is
    there, and ``check`` is called each second and may raise. Raises NotPlaced."""
    wanted = [(group.role, _bundle(group)) for group in groups for _ in range(group.count)]
    bundles = [bundle for _, bundle in wanted if bundle]
    if not bundles:
        yield Room(_options(None, wanted, []), frozenset())
        return
    held = placement_group(bundles, strategy="PACK")
    try:
        _wait(held, _total(bundles), FREE_TIMEOUT_S + patience, say, check)
        nodes = placement_group_table(held)["bundles_to_node_id"]
        indices = by_node(bundles, [nodes[index] for index in range(len(bundles))])
        yield Room(_options(held, wanted, indices), frozenset(nodes.values()))
    finally:
        # Of a head that is gone, and that must neither hide what ended the run nor keep it from ending.
        in_time(lambda: remove_placement_group(held), REMOVE_S)


def _bundle(group: ActorGroup) -> dict[str, float]:
    """What one actor takes; Ray knows no bundle of nothing, nor a share of nothing in one."""
    return {kind: share for kind, share in (("CPU", group.cpus_each), ("GPU", group.gpus_each)) if share}


def by_node(bundles: Sequence[Mapping[str, float]], nodes: Sequence[str]) -> list[int]:
    """Of each actor's bundle the index of the one that it uses, where ``nodes`` says where Ray has put them.

    Ray packs bundles of one shape in any order, so that the learner's ranks, which talk most, could be strewn over
    nodes that would hold them together. Actors of one shape therefore take their bundles node by node, in the order of
    roles, from the node that has most of them on.

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


def _options(
    held: Any, wanted: Sequence[tuple[str, Mapping[str, float]]], indices: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    using = iter(indices)
    for role, bundle in wanted:
        options: dict[str, Any] = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0)}
        if bundle:
            place = PlacementGroupSchedulingStrategy(held, placement_group_bundle_index=next(using))
            options["scheduling_strategy"] = place
        found.setdefault(role, []).append(options)
    return found


def _wait(
    held: Any, total: Mapping[str, float], seconds: float, say: Callable[[str], None], check: Callable[[], None]
) -> None:
    begin = told = time.monotonic()
    while not held.wait(POLL_S):
        check()
        now = time.monotonic()
        if now - begin >= seconds:
            raise NotPlaced(
                f"after {seconds:.0f} s the cluster has not handed out {_listing(total)}. {_there(total)}: "
                "something else holds the rest, nodes are missing (cluster.wait_seconds is how long they may take to "
                "come), or no node is large enough for one actor"
            )
        if now - told >= TELL_EVERY_S:
            told = now
            say(f"waiting for {_listing(total)}; {_there(total)} ({now - begin:.0f} s of at most {seconds:.0f})")


def _there(total: Mapping[str, float]) -> str:
    """What the cluster has of what is wanted."""
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
