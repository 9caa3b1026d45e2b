"""Adds up the memory of a GPU that an engine and a rank of the learner share, at each moment of a run. All in GiB.

They take turns, so what counts is the largest of these moments, each of which has two CUDA contexts:

- building: the engine alone, with all that it ever takes
- loading: the engine sleeps, and the rank loads
- training: the engine sleeps, and the rank has all that an optimizer step takes
- sync: the rank rests and sends; the engine has room for weights, and takes them layer by layer
- sampling: the rank rests, and the engine has its weights and its cache
- scoring: as sampling, while the rank makes a pass without a gradient (probe, evaluation)

A rank at rest has its weights and its optimizer's state, less what ``learner.optimizer_offload`` moves to the host; a
reference that the ranks hold, or the frozen head of one that actors hold; and with DeepSpeed gradients and buckets too,
which it keeps. An engine asleep has CUDA graphs (:data:`GRAPHS_GIB`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carerl.config.plan.cards import card_of, is_named
from carerl.config.plan.memory import (
    CONTEXT_GIB,
    GIB,
    TIGHT,
    Overflow,
    Parts,
    head_chunks,
    kept_share,
    learner_memory,
    loading_gib,
    rollout_memory,
)
from carerl.config.plan.sharding import BYTES
from carerl.config.plan.smaller import LARGER, LITTLE, STATE, either, ways_of
from carerl.config.plan.sync import bucket_bytes, largest_tensor
from carerl.config.roles import reference_in_learner, shares_gpu
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters, effective_shape
from carerl.config.transfer import transfer_kind
from carerl.errors import ConfigError

GRAPHS_GIB = 1.0  # of an engine with CUDA graphs, which stay while it sleeps [assumed]
OF_TRAINING = ("gathered", "root gradients", "activations", "head", "head matrices")  # gone at rest
OF_FSDP2 = ("gradients", "buckets")  # these too, but not with DeepSpeed
# The moments in which an actor takes memory, by what it is asked for: the phases of carerl.actors
ASKED: dict[str, dict[str, tuple[str, ...]]] = {
    "learner": {"load": ("loading",), "train": ("training",), "sync": ("sync",), "score": ("scoring",)},
    "rollout": {"load": ("building",), "sync": ("sync", "sampling"), "generate": ("sampling",)},
}


@dataclass(frozen=True)
class Moment:
    """Says what is on a shared GPU at one moment. ``certain``: what of it follows from settings and parameter count
    without any estimate."""

    name: str
    engine: Parts
    rank: Parts
    certain: float

    @property
    def total(self) -> float:
        return 2 * CONTEXT_GIB + sum(self.engine.values()) + sum(self.rank.values())

    @property
    def parts(self) -> list[tuple[str, str, float]]:
        """Role, name and size of every part, the largest first."""
        found = [("rollout", name, gib) for name, gib in self.engine.items()]
        found += [("learner", name, gib) for name, gib in self.rank.items()]
        return sorted(found, key=lambda part: -part[2])

    @property
    def largest(self) -> str:
        """The three largest parts, in words."""
        whose = {"rollout": "engine's", "learner": "learner's"}
        return ", ".join(f"{whose[role]} {name} {gib:.1f}" for role, name, gib in self.parts[:3] if gib)


def shared_moments(config: RunConfig, shape: ShapeConfig) -> tuple[Moment, ...]:
    """Returns the moments of a GPU that an engine and a rank share; none where they do not."""
    if not shares_gpu(config):
        return ()
    training, awake = learner_memory(config, shape), rollout_memory(config, shape)
    asleep = {} if config.rollout.enforce_eager or config.rollout.engine != "vllm" else {"CUDA graphs": GRAPHS_GIB}
    resting = _resting(config, shape, training)
    state = sum(training.get(name, 0.0) for name in STATE)
    left = sum(resting.get(name, 0.0) for name in STATE)
    n, b = count_parameters(shape).total, BYTES[config.model.dtype]
    layer = b * n / shape.num_layers / GIB
    sent = b * largest_tensor(shape) / GIB
    if transfer_kind(config) == "ipc":
        sent += bucket_bytes(config, shape) / GIB
    taking = asleep | {"weights": awake["weights"], "layer on its way": layer}
    certain_engine = sum(awake.values()) if config.rollout.engine == "vllm" else awake["weights"]
    return (
        Moment("building", awake, {}, certain_engine),
        Moment("loading", asleep, {"weights": loading_gib("learner", config, shape)}, 0.0),
        Moment("training", asleep, training, state),
        Moment("sync", taking, resting | {"tensors on their way": sent}, left + awake["weights"]),
        Moment("sampling", awake, resting, left + certain_engine),
        Moment("scoring", awake, resting | _scoring(config, shape, training), 0.0),
    )


def _resting(config: RunConfig, shape: ShapeConfig, training: Parts) -> Parts:
    """Returns what a rank keeps between its turns."""
    gone = OF_TRAINING + (OF_FSDP2 if config.learner.backend == "fsdp2" else ())
    gone += ("optimizer",) if config.learner.optimizer_offload else ()
    kept = {name: gib for name, gib in training.items() if name not in gone}
    return kept if reference_in_learner(config) else kept | _reference_head(config, shape)


def _scoring(config: RunConfig, shape: ShapeConfig, training: Parts) -> Parts:
    """Returns what a pass without a gradient takes beside that: gathered layers, one layer's activations, and logits
    with their log-softmax; and the head of a reference that the ranks hold."""
    held = reference_in_learner(config) and not config.learner.lora.rank  # that of adapters is the learner's own
    return (_reference_head(config, shape) if held else {}) | {
        "gathered": training["gathered"],
        "activations": training["activations"] * kept_share(config, shape),
        "head": 2 * training["head"] / head_chunks(config),
    }


def _reference_head(config: RunConfig, shape: ShapeConfig) -> Parts:
    """Returns the frozen head with which a rank makes log-probs of the reference's hidden states."""
    if "reference" not in config.does.roles:
        return {}
    return {"reference's head": BYTES[config.reference.compute_dtype] * shape.vocab_size * shape.hidden_size / GIB}


def shared_overflows(config: RunConfig, shape: ShapeConfig) -> list[Overflow]:
    """Returns the moments in which a shared GPU is too small, or leaves a rank hardly more than it takes."""
    room = card_of(config).memory_gib
    found = []
    for moment in shared_moments(config, shape):
        for_rank = room - 2 * CONTEXT_GIB - sum(moment.engine.values())
        if sum(moment.rank.values()) > TIGHT * for_rank:
            remedy = _remedy(config, moment)
            certain = moment.certain > room
            found.append(Overflow("a shared GPU", moment.name, moment.total, room, moment.largest, remedy, certain))
    return found


def _remedy(config: RunConfig, moment: Moment) -> str:
    """Returns what makes a moment's memory smaller."""
    return either([*ways(config, moment), LARGER, "GPUs apart (cluster.placement=disaggregated)"])


def ways(config: RunConfig, moment: Moment) -> list[str]:
    """Returns ways to make the largest parts of a moment smaller, those of the engine and the rank alike, and any part
    that alone has what the card is short of."""
    short = moment.total - card_of(config).memory_gib
    worth = min(LITTLE * moment.total, short) if short > 0 else LITTLE * moment.total
    return [way for role, part, gib in moment.parts if gib >= worth for way in _ways_of(config, moment, role, part)]


def _ways_of(config: RunConfig, moment: Moment, role: str, part: str) -> list[str]:
    own = config.learner
    if role == "learner" and part == "optimizer" and moment.name != "training" and own.backend == "fsdp2":
        return ["write learner.optimizer_offload=true"]  # a rank at rest does not need it
    return ways_of(config, role, part, on_gpu=True)


def fullest(config: RunConfig, shape: ShapeConfig, role: str, phase: str = "") -> Moment | None:
    """Returns the moment in which an actor of a role is likeliest out of a shared GPU's memory; None for an actor that
    shares none. ``phase``: what it was asked for, as messages name it."""
    own = ASKED.get(role, {})
    names = own.get(phase) or tuple(name for moments in own.values() for name in moments)
    return max((m for m in shared_moments(config, shape) if m.name in names), key=lambda m: m.total, default=None)


def shared_fit_pairings(c: RunConfig) -> Iterator[ConfigError]:
    """Yields an error for a shared GPU that is too small without any estimate, where the settings name the card. A dry
    run shows the whole plan instead."""
    if c.dry_run or not is_named(c):
        return
    key = "cluster.gpu" if c.cluster.gpu else "cluster.gpu_memory_gib"
    certain = [overflow for overflow in shared_overflows(c, effective_shape(c)[0]) if overflow.certain]
    if certain:
        reason, _, remedy = str(max(certain, key=lambda overflow: overflow.needed_gib)).partition("; ")
        value = c.cluster.gpu or c.cluster.gpu_memory_gib
        yield ConfigError(key, value, reason, f"{remedy}; dry_run=true prints the whole plan")
