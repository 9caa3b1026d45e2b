"""Compares what a run's actors took of memory with what the plan says, by role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carerl.config.plan.advice import advice
from carerl.config.plan.memory import CONTEXT_GIB, actor_memory
from carerl.config.plan.resident import resident_parts
from carerl.config.plan.shared import fullest
from carerl.config.roles import ActorGroup, actor_groups
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import effective_shape

NEAR = 0.15  # how far off a plan may be: tests hold it to that on the CPU
SLACK_GIB = 0.5  # what libraries take is no more exact: a large vocabulary's tokenizer and head add .3 to a tiny model
FULL = 0.9  # of a card: above it, an update with longer rows may be the last
WORK = {"learner": "train", "rollout": "generate"}  # the phase in which an actor of a shared GPU is at its peak
RESIDENT = {
    "learner": "system/resident_learner_gib",
    "rollout": "system/resident_rollout_gib",
    "reference": "system/resident_reference_gib",
    "grading": "system/resident_grading_gib",
    "judge": "system/resident_judge_gib",
}
ON_CARD = {  # what torch's tensors take, and what is taken beyond them
    "learner": ("system/allocated_learner_gib", "system/fragmentation_learner_gib"),
    "rollout": ("system/allocated_rollout_gib", "system/fragmentation_rollout_gib"),
    "reference": ("system/allocated_reference_gib", "system/fragmentation_reference_gib"),
    "judge": ("system/allocated_judge_gib", "system/fragmentation_judge_gib"),
}


@dataclass(frozen=True)
class Peak:
    """Holds the most memory that an actor has had so far, GiB. ``allocated``: of its GPU, in torch's tensors.
    ``reserved``: what torch has taken for them. ``card``: what that GPU has in all. These three are 0 without a GPU,
    and where an engine's workers are processes of their own."""

    resident: float
    allocated: float = 0.0
    reserved: float = 0.0
    card: float = 0.0

    @property
    def fragmentation(self) -> float:
        """What torch has taken beyond its tensors, at their peaks."""
        return self.reserved - self.allocated


@dataclass(frozen=True)
class Compared:
    """Holds what a person and the metrics are told. ``warnings``: for roles above their plan or near the end of a
    card."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: dict[str, float]


def compared(config: RunConfig, peaks: Mapping[str, Peak]) -> Compared:
    """Compares peaks, by role and number of each actor ("learner 0"), with the plan. Of a role the largest counts. What
    is not reached in the first steps, such as a checkpoint, is in the plan and not yet in a peak."""
    shape, _ = effective_shape(config)
    host, cards, warnings = [], [], []
    metrics: dict[str, float] = {}
    for group in actor_groups(config):
        role = group.role
        own = [peak for name, peak in peaks.items() if name.rsplit(" ", 1)[0] == role]
        if not own:
            continue
        resident, parts = max(peak.resident for peak in own), resident_parts(config, shape, role)
        planned = sum(parts.values())
        metrics[RESIDENT[role]] = resident
        host.append(f"{role} {resident:.2f} ({planned:.2f})")
        if resident > max((1 + NEAR) * planned, planned + SLACK_GIB):
            warnings.append(f"{role}: {resident:.2f} GiB of main memory, and the plan says {planned:.2f}")
        worst = max(own, key=lambda peak: peak.reserved)
        if not worst.reserved:
            continue
        on_card = sum(actor_memory(config, shape, (group,))[role].values())
        planned = on_card / {"rollout": config.rollout.tensor_parallel, "judge": config.judge.tensor_parallel}.get(
            role, 1
        )
        metrics |= dict(zip(ON_CARD[role], (worst.allocated, worst.fragmentation), strict=True))
        cards.append(f"{role} {worst.allocated:.1f} ({planned:.1f}), and {worst.fragmentation:.1f} of fragmentation")
        warnings += _of_card(config, shape, group, worst, planned)
    lines = [f"main memory at its peak so far, GiB (planned): {', '.join(host)}"] if host else []
    lines += [f"GPU memory at its peak so far, GiB (planned): {'; '.join(cards)}"] if cards else []
    return Compared(tuple(lines), tuple(warnings), metrics)


def _of_card(config: RunConfig, shape: ShapeConfig, group: ActorGroup, peak: Peak, planned: float) -> list[str]:
    """Returns the warnings about one role's GPU. vLLM takes the share that the settings give it, however large. An
    actor that shares its GPU in turns has all of it, but for what the plan says of the other one in that turn."""
    found, role = [], group.role
    if peak.allocated > planned:
        found.append(f"{role}: {peak.allocated:.1f} GiB of a GPU, and the plan says {planned:.1f}")
    room, beside, phase = peak.card * min(1.0, group.gpus_each), 0.0, WORK.get(role, "")
    if moment := fullest(config, shape, role, phase):
        other = moment.engine if role == "learner" else moment.rank
        room, beside = peak.card, CONTEXT_GIB + sum(other.values())
    taken = peak.reserved + CONTEXT_GIB + beside
    engine = {"rollout": config.rollout.engine, "judge": config.judge.engine}.get(role)
    if taken > FULL * room and engine != "vllm":
        way = advice(config, role, phase).card
        shared = f"{beside:.1f} of them by the actor that shares it, " if beside else ""
        found.append(
            f"{role}: {taken:.1f} of {room:.1f} GiB of its GPU are taken, {shared}{peak.fragmentation:.1f} of them by "
            f"fragmentation: longer rows may not fit{f'; {way}' if way else ''}"
        )
    return found
