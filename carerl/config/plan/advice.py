"""Says what to change in a run whose actor was out of memory: the setting behind the largest part of its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carerl.config.plan.memory import actor_memory
from carerl.config.plan.resident import resident_parts
from carerl.config.plan.shared import fullest, ways
from carerl.config.plan.smaller import LITTLE, either, smaller
from carerl.config.roles import actor_groups
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape


@dataclass(frozen=True)
class Advice:
    """Says what to change where an actor of a role is out of memory, of its GPU (``card``) or of the host; '' where the
    plan knows nothing to change."""

    card: str = ""
    host: str = ""


NO_ADVICE = Advice()


def advice(config: RunConfig, role: str, phase: str = "") -> Advice:
    """Returns the advice for actors of a role. A role of a plugin's has none. ``phase``: what the actor was asked for,
    as messages name it; on a GPU that it shares, what else is there depends on that."""
    group = next((group for group in actor_groups(config) if group.role == role), None)
    if group is None:
        return NO_ADVICE
    shape, _ = effective_shape(config)
    host = _largest(config, role, resident_parts(config, shape, role), False)
    if moment := fullest(config, shape, role, phase):
        found = either(ways(config, moment))
        told = f"{found}: the largest parts of the shared GPU in {moment.name}, GiB, are {moment.largest}"
        return Advice(told if found else "", host)
    card = actor_memory(config, shape, (group,)).get(role, {}) if group.gpus_each else {}
    return Advice(_largest(config, role, card, True), host)


def _largest(config: RunConfig, role: str, parts: Mapping[str, float], on_gpu: bool) -> str:
    """Returns in words the largest part that a setting makes smaller, and that setting; '' if all of those are
    little."""
    total = sum(parts.values())
    for part, gib in sorted(parts.items(), key=lambda item: -item[1]):
        if gib >= LITTLE * total and (way := smaller(config, role, part, on_gpu)):
            return f"{way}: {part}, {gib:.2g} GiB of the {total:.3g} planned for it"
    return ""
