"""Room for a run's actors: all of it, or none.

A run reserves its resources as one Ray placement group before it starts an actor. Two runs that want the same GPUs then
wait one for the other, where each would otherwise hold half of them for ever; and a cluster with an autoscaler sees
everything that a run needs at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from carerl.config.actors import ActorGroup
from carerl.types import RunError

FREE_TIMEOUT_S = 300.0  # that what others hold may take to become free
POLL_S = 1.0
TELL_EVERY_S = 30.0


class NotPlaced(RunError):
    """The cluster does not hand out what the plan needs."""


@contextmanager
def reserved(
    groups: Sequence[ActorGroup], patience: float, say: Callable[[str], None], check: Callable[[], None]
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Of each role the options of ``.options()`` that put its actors, in order, onto resources reserved for them, on as
    few nodes as hold them all. The reservation ends with the block, and with this process.

    It is waited for, ``patience`` seconds longer than :data:`FREE_TIMEOUT_S`; ``say`` is told now and then what is
    there, and ``check`` is called each second and may raise. Raises NotPlaced."""
    wanted = [(group.role, _bundle(group)) for group in groups for _ in range(group.count)]
    bundles = [bundle for _, bundle in wanted if bundle]
    if not bundles:
        yield _options(None, wanted)
        return
    held = placement_group(bundles, strategy="PACK")
    try:
        _wait(held, _total(bundles), FREE_TIMEOUT_S + patience, say, check)
        yield _options(held, wanted)
    finally:
        remove_placement_group(held)


def _bundle(group: ActorGroup) -> dict[str, float]:
    """What one actor takes; Ray knows no bundle of nothing, nor a share of nothing in one."""
    return {kind: share for kind, share in (("CPU", group.cpus_each), ("GPU", group.gpus_each)) if share}


def _options(held: Any, wanted: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    index = 0
    for role, bundle in wanted:
        options: dict[str, Any] = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0)}
        if bundle:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(held, placement_group_bundle_index=index)
            index += 1
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
