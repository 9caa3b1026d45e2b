"""Lists which actors a run starts, what each asks for, and on which node it comes to lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carerl.config.schema import RunConfig
from carerl.errors import ConfigError


@dataclass(frozen=True)
class ActorGroup:
    """Actors of one role. ``setting`` names the setting that decides their share."""

    role: str
    count: int
    cpus_each: float
    gpus_each: float
    setting: str


def _learner(c: RunConfig) -> ActorGroup:
    own = c.learner
    return ActorGroup("learner", own.ranks, own.cpus_per_rank, own.gpus_per_rank, "learner.cpus_per_rank")


def _rollout(c: RunConfig) -> ActorGroup:
    own = c.rollout
    return ActorGroup("rollout", own.actors, own.cpus_per_actor, own.gpus_per_actor, "rollout.cpus_per_actor")


def _reference(c: RunConfig) -> ActorGroup:
    own = c.reference
    return ActorGroup("reference", own.actors, own.cpus_per_actor, own.gpus_per_actor, "reference.cpus_per_actor")


def _grading(c: RunConfig) -> ActorGroup:
    return ActorGroup("grading", c.grading.actors, c.grading.cpus_per_actor, 0.0, "grading.cpus_per_actor")


ROLES: dict[str, Callable[[RunConfig], ActorGroup]] = {
    "learner": _learner,
    "rollout": _rollout,
    "reference": _reference,
    "grading": _grading,
}


def reference_in_learner(config: RunConfig) -> bool:
    """Returns True if the run has a reference and the learner's ranks hold it: then no actor does."""
    return config.reference.place == "learner" and "reference" in config.does.roles


def actor_groups(config: RunConfig) -> list[ActorGroup]:
    """Returns the actors that a run of this kind starts, in the order in which they are placed: those with most GPUs
    first, then as the loop uses them."""
    left_out = {"reference"} if reference_in_learner(config) else set()
    return [ROLES[role](config) for role in config.does.roles if role not in left_out]


@dataclass(frozen=True)
class Node:
    """A node of the plan: how many actors of each role it holds and the GPUs they take."""

    actors: dict[str, int]
    gpus: float


def place(config: RunConfig) -> list[Node]:
    """Actors packed onto as few nodes as hold them, first fit in the order of :func:`actor_groups`.

    Without GPUs, or with ``cluster.gpus_per_node=0``, one node is assumed. Raises ConfigError when one
    actor needs more GPUs than a node has."""
    per_node = float(config.cluster.gpus_per_node)
    groups = actor_groups(config)
    if per_node == 0:
        total = sum(g.count * g.gpus_each for g in groups)
        return [Node({g.role: g.count for g in groups}, total)]
    free: list[float] = []
    held: list[dict[str, int]] = []
    for group in groups:
        if group.gpus_each > per_node:
            raise ConfigError(
                group.setting,
                group.gpus_each,
                f"a node has {per_node:g} GPUs",
                "lower it or raise cluster.gpus_per_node",
            )
        for _ in range(group.count):
            index = next((i for i, room in enumerate(free) if room >= group.gpus_each - 1e-9), None)
            if index is None:
                free.append(per_node)
                held.append({})
                index = len(free) - 1
            free[index] -= group.gpus_each
            held[index][group.role] = held[index].get(group.role, 0) + 1
    return [Node(actors, per_node - room) for actors, room in zip(held, free, strict=True)]
