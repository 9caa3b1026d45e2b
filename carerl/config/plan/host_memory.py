"""Adds up each node's main memory while a run loads, syncs, scores, and saves: as the code does it today.

Figures in GiB, each an estimate. Ray's object store is counted where a value lies in it. Left out: the driver (2 GiB
and a step's batch), the operating system, and files that the kernel caches. N parameters; b bytes of ``model.dtype``.

- resting, and at every other moment too: processes, what a learner offloads, and weights of an engine that sleeps which
  no sync brings back; the latter two as :mod:`carerl.config.plan.pinned` counts them
- loading: the learner's first rank has two tensors of the files at one time, a reference b·N; vLLM reads files straight
  to its GPU
- weight sync: buckets, see :mod:`carerl.config.plan.sync`
- hidden states, where the reference sends them: its own share twice (as tensor and pickled), the shares in the object
  stores of both sides, and on every rank those of its own rows
- checkpoint: every rank copies what it saves (:func:`carerl.config.plan.sharding.saved_bytes`), the first one the model
  in b bytes too; the copies are there until they are written
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carerl.config.plan.memory import (
    GIB,
    actor_memory,
    exact_divergence,
    hidden_states_gib,
    kept_asleep_gib,
    offloaded_bytes,
)
from carerl.config.plan.processes import process_gib
from carerl.config.plan.rows import rows_of
from carerl.config.plan.sharding import BYTES, saved_bytes, trained
from carerl.config.plan.sync import exported_bytes, largest_tensor, sync_host_bytes
from carerl.config.roles import Node, actor_groups, reference_in_learner
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters

PRIMARY_QUESTIONS = 500  # of the suite that is scored, where all are asked: MATH-500's


@dataclass(frozen=True)
class NodeMemory:
    """Main memory of one node, GiB, by moment; processes that only wait are in every moment."""

    moments: dict[str, float]

    @property
    def peak(self) -> float:
        return max(self.moments.values())


def host_memory(config: RunConfig, shape: ShapeConfig, nodes: Sequence[Node]) -> tuple[NodeMemory, ...]:
    """Returns the memory of each node of the plan, in order. Moments that a run does not have are left out."""
    resting = [_resting(config, shape, node.actors) for node in nodes]
    first = next((k for k, node in enumerate(nodes) if node.actors.get("learner")), -1)
    moments: dict[str, Callable[[int], float]] = {}
    if first >= 0:
        moments["loading"] = lambda k: _loading(config, shape, nodes[k].actors, k == first)
    if first >= 0 and any(_sync(config, shape, nodes, k, first) for k in range(len(nodes))):
        moments["weight sync"] = lambda k: _sync(config, shape, nodes, k, first)
    if sent := largest_hidden_gib(config, shape):
        moments["hidden states"] = lambda k: _hidden(config, nodes[k].actors, sent)
    if first >= 0:
        moments["checkpoint"] = lambda k: _checkpoint(config, shape, nodes[k].actors, k == first)
    return tuple(
        NodeMemory({"resting": rest} | {name: rest + extra(k) for name, extra in moments.items()})
        for k, rest in enumerate(resting)
    )


def _resting(config: RunConfig, shape: ShapeConfig, held: dict[str, int]) -> float:
    """Adds up processes, what graders may take, and the models of actors without a GPU."""
    groups = tuple(actor_groups(config))
    models = actor_memory(config, shape, groups)
    gpus = {group.role: group.gpus_each > 0 for group in groups}
    total = sum(process_gib(config, role, gpus[role]) * count for role, count in held.items())
    total += held.get("grading", 0) * config.grading.processes * config.grading.memory_mib / 1024
    for group in groups:
        if not group.gpus_each and group.role in models:
            total += held.get(group.role, 0) * sum(models[group.role].values())
    total += held.get("rollout", 0) * kept_asleep_gib(config, shape)
    return total + held.get("learner", 0) * offloaded_bytes(config, shape) / GIB


def _loading(config: RunConfig, shape: ShapeConfig, held: dict[str, int], reads: bool) -> float:
    """Adds up what is built on the host; without a GPU it is in what rests already. ``reads``: the learner's first rank
    is here."""
    n, b = count_parameters(shape).total, BYTES[config.model.dtype]
    plain = config.rollout.engine != "vllm"  # transformers builds its model on the host
    built = 2 * b * largest_tensor(shape) if reads else 0
    built += held.get("reference", 0) * b * n if config.reference.gpus_per_actor else 0
    built += held.get("rollout", 0) * b * n if plain and config.rollout.gpus_per_actor else 0
    return built / GIB


def _sync(config: RunConfig, shape: ShapeConfig, nodes: Sequence[Node], k: int, first: int) -> float:
    if not any("rollout" in node.actors for node in nodes):
        return 0.0
    return sync_host_bytes(config, shape, nodes, k == first, "rollout" in nodes[k].actors) / GIB


def largest_hidden_gib(config: RunConfig, shape: ShapeConfig) -> float:
    """Returns the most hidden states that one request to the reference sends, GiB, at full length; 0 where none are
    ever asked for. A step sends them for an exact divergence, for its table and for reports without a penalty; an
    evaluation for ``scored_samples`` responses to each question of the primary suite."""
    if not config.trains_on_questions or reference_in_learner(config):
        return 0.0
    r, e = config.regularizer, config.evaluation
    step = r is not None and (exact_divergence(config) or config.tracking.rollouts_every > 0 or r.beta == 0)
    rows = rows_of(config).total
    asked = [rows] if step else []
    if e.at_start or e.at_end:
        asked.append((e.questions or PRIMARY_QUESTIONS) * e.scored_samples)
    if e.every:
        asked.append((e.questions_between or PRIMARY_QUESTIONS) * e.scored_samples)
    return max(asked, default=0) / rows * hidden_states_gib(config, shape)


def _hidden(config: RunConfig, held: dict[str, int], sent: float) -> float:
    """Adds up the copies of a batch's hidden states, ``sent`` GiB."""
    references, ranks = held.get("reference", 0), held.get("learner", 0)
    own = sent * references / config.reference.actors
    stored = sent if ranks else own
    return 2 * own + stored + ranks * sent / config.learner.ranks


def _checkpoint(config: RunConfig, shape: ShapeConfig, held: dict[str, int], exports: bool) -> float:
    total = held.get("learner", 0) * saved_bytes(config, shape)
    total += exported_bytes(config, shape) if exports else 0
    return total / GIB


def checkpoint_bytes(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns the size of one checkpoint on disk: what is trained and both moments in float32, 12N, and the exported
    model."""
    return 12 * trained(config, shape) + exported_bytes(config, shape)


def disk_bytes(config: RunConfig, shape: ShapeConfig) -> int:
    """Returns the most that a run's checkpoints take: those kept, one being written, and the best model."""
    kept = (config.checkpoint.keep + 1) * checkpoint_bytes(config, shape)
    return kept + (2 * exported_bytes(config, shape) if config.checkpoint.best else 0)
