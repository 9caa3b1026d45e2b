"""Lists which actors a run starts, what each asks for, and on which node it comes to lie.

With ``cluster.placement=colocated`` rank k of the learner and engine k share a GPU: both lie in one bundle of Ray's.
Elsewhere Ray hands out shares of a GPU first fit, so that two ranks could meet on one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carerl.config.judging import judges
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError


@dataclass(frozen=True)
class ActorGroup:
    """Actors of one role. ``setting`` names the setting that decides their share of CPUs. ``shares_with``: the role
    whose actor of the same number each of them shares a GPU with, in turn; '' for none."""

    role: str
    count: int
    cpus_each: float
    gpus_each: float
    setting: str
    shares_with: str = ""

    @property
    def gpus_setting(self) -> str:
        """The setting that decides their share of GPUs."""
        return self.setting.replace(".cpus_", ".gpus_")


def _learner(c: RunConfig) -> ActorGroup:
    own = c.learner
    return ActorGroup("learner", own.ranks, own.cpus_per_rank, own.gpus_per_rank, "learner.cpus_per_rank")


def _rollout(c: RunConfig) -> ActorGroup:
    own, shares_with = c.rollout, "learner" if colocated(c) else ""
    setting = "rollout.cpus_per_actor"
    return ActorGroup("rollout", own.actors, own.cpus_per_actor, own.gpus_per_actor, setting, shares_with)


def _reference(c: RunConfig) -> ActorGroup:
    own = c.reference
    return ActorGroup("reference", own.actors, own.cpus_per_actor, own.gpus_per_actor, "reference.cpus_per_actor")


def _grading(c: RunConfig) -> ActorGroup:
    return ActorGroup("grading", c.grading.actors, c.grading.cpus_per_actor, 0.0, "grading.cpus_per_actor")


def _judge(c: RunConfig) -> ActorGroup:
    own = c.judge
    return ActorGroup("judge", own.actors, own.cpus_per_actor, own.gpus_per_actor, "judge.cpus_per_actor")


ROLES: dict[str, Callable[[RunConfig], ActorGroup]] = {
    "learner": _learner,
    "rollout": _rollout,
    "reference": _reference,
    "grading": _grading,
    "judge": _judge,
}


def colocated(config: RunConfig) -> bool:
    """Returns True if each engine shares its GPU with a rank of the learner. Where either is missing, as in an
    evaluation or in the training of a base model, nothing is shared: the settings of a cluster go along with a run to
    those that it is made of."""
    return config.cluster.placement == "colocated" and {"learner", "rollout"} <= set(config.does.roles)


def shares_gpu(config: RunConfig) -> bool:
    """Returns True if each engine shares a GPU, and not only bookkeeping, with a rank of the learner."""
    return colocated(config) and config.learner.gpus_per_rank > 0


def reference_in_learner(config: RunConfig) -> bool:
    """Returns True if the run has a reference and the learner's ranks hold it: then no actor does. Ranks that train
    adapters hold it without a copy: it is their model without the adapters."""
    here = config.reference.place == "learner" or config.learner.lora.rank > 0
    return here and "reference" in config.does.roles


def actor_groups(config: RunConfig) -> list[ActorGroup]:
    """Returns the actors that a run of this kind starts, in the order in which they are placed: those with most GPUs
    first, then as the loop uses them."""
    left_out = {"reference"} if reference_in_learner(config) else set()
    if not judges(config):
        left_out.add("judge")
    return [ROLES[role](config) for role in config.does.roles if role not in left_out]


@dataclass(frozen=True)
class Node:
    """A node of the plan: how many actors of each role it holds and the GPUs they take."""

    actors: dict[str, int]
    gpus: float


def place(config: RunConfig) -> list[Node]:
    """Actors packed onto as few nodes as hold them, first fit in the order of :func:`actor_groups`.

    An actor that shares a GPU with another lies where that one does. Without GPUs, or with ``cluster.gpus_per_node=0``,
    one node is assumed. Raises ConfigError when one actor needs more GPUs than a node has."""
    per_node = float(config.cluster.gpus_per_node)
    groups = actor_groups(config)
    if per_node == 0:
        total = sum(g.count * g.gpus_each for g in groups)
        return [Node({g.role: g.count for g in groups}, total)]
    free: list[float] = []
    held: list[dict[str, int]] = []
    guests = {group.shares_with: group for group in groups if group.shares_with}
    for group in groups:
        if group.shares_with:
            continue
        together = [group, guests[group.role]] if group.role in guests else [group]
        gpus = sum(one.gpus_each for one in together)
        if gpus > per_node:
            raise ConfigError(
                group.gpus_setting,
                group.gpus_each,
                f"a node has {per_node:g} GPUs",
                "lower it or raise cluster.gpus_per_node",
            )
        for _ in range(group.count):
            index = next((i for i, room in enumerate(free) if room >= gpus - 1e-9), None)
            if index is None:
                free.append(per_node)
                held.append({})
                index = len(free) - 1
            free[index] -= gpus
            for one in together:
                held[index][one.role] = held[index].get(one.role, 0) + 1
    return [Node(actors, per_node - room) for actors, room in zip(held, free, strict=True)]
