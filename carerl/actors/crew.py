"""Starts a run's actors, and hands them out as a crew: one handle a role.

A crew's kind follows from the roles that the run's plan names: :class:`TrainingCrew` for RL, :class:`LearnerCrew` for
supervised training, :class:`EvaluationCrew` for an evaluation. A batch is put into the object store once, and the
reference's scores go from its actors to the ranks of the learner that need them, without passing through the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from carerl.actors import profiling
from carerl.actors.cluster.placement import NotPlaced, reserved
from carerl.actors.handles.base import Handle
from carerl.actors.handles.engines import Engines, JudgeEngines
from carerl.actors.handles.graders import Graders
from carerl.actors.handles.learner import Learner
from carerl.actors.handles.reference import Reference, ReferenceInLearner
from carerl.actors.health.asking import WATCH, WRITE, Asker
from carerl.actors.health.draining import watched
from carerl.actors.health.ending import end
from carerl.actors.health.error_log import raylets_words
from carerl.actors.health.heads import Head
from carerl.actors.health.oom import oom_kills
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.grader import GraderWorker
from carerl.actors.workers.learner import LearnerWorker
from carerl.actors.workers.reference import ReferenceWorker
from carerl.backends.recording import Recording
from carerl.config.cores import Threads
from carerl.config.judging import judge_run
from carerl.config.load import base_config
from carerl.config.plan.advice import advice
from carerl.config.plan.peaks import Peak
from carerl.config.roles import actor_groups, colocated, reference_in_learner
from carerl.config.schema import RunConfig


@dataclass(kw_only=True)
class Crew:
    """Has what the actors of every run can do, whatever their roles. ``names``: role and number of each actor."""

    actors: list[Any]
    names: list[str] = field(default_factory=list)
    ask: Asker = field(default_factory=Asker)

    @property
    def handles(self) -> tuple[Handle, ...]:
        """The handles, one a role, in the order in which they load."""
        return ()

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Gives all actors their settings and weights. May be called again for another run."""
        handles = self.handles
        if colocated(config):  # an engine measures what is free as it is built, so it is built first, and sleeps then
            engines = next(handle for handle in handles if isinstance(handle, Engines))
            learner = next(handle for handle in handles if isinstance(handle, Learner))
            learner.release()
            self.ask(engines.load(config, model_dir), "load")
            handles = tuple(handle for handle in handles if handle is not engines)
        self.ask([pending for handle in handles for pending in handle.load(config, model_dir)], "load")

    def threads(self) -> dict[str, Threads]:
        """Returns the threads that each actor computes with, by its role and number."""
        found = self.ask([actor.threads.remote() for actor in self.actors], "threads")
        return dict(zip(self.names, found, strict=True))

    def record(self, ops: bool) -> None:
        """Has every actor begin to record where its time goes. ``ops``: torch's operations, instead of stacks."""
        self.ask([actor.record.remote(ops) for actor in self.actors], "profile")

    def recorded(self) -> list[Recording]:
        """Ends the recordings and returns them, each under its actor's role and number."""
        found = self.ask([actor.recorded.remote() for actor in self.actors], "profile")
        for name, recording in zip(self.names, found, strict=True):
            recording.process = name
        return list(found)

    def peaks(self) -> dict[str, Peak]:
        """Returns the most memory that each actor has had so far, by its role and number."""
        found = self.ask([actor.peak.remote() for actor in self.actors], "memory")
        return dict(zip(self.names, found, strict=True))

    def rss_gib(self) -> float:
        """Returns the peak resident memory of all actors together, GiB, without the processes that they start."""
        return float(sum(self.ask([actor.rss_gib.remote() for actor in self.actors], "memory")))


@dataclass(kw_only=True)
class LearnerCrew(Crew):
    """Has the actor of supervised training: the learner."""

    learner: Learner

    @property
    def handles(self) -> tuple[Handle, ...]:
        return (self.learner,)


@dataclass(kw_only=True)
class EvaluationCrew(Crew):
    """Has the actors of an evaluation: engines that sample and graders that grade."""

    engines: Engines
    graders: Graders

    @property
    def handles(self) -> tuple[Handle, ...]:
        return (self.engines, self.graders)


@dataclass(kw_only=True)
class TrainingCrew(EvaluationCrew):
    """Has the actors of RL. The reference is always there: the divergence from it is reported even if it is not
    penalised."""

    learner: Learner
    reference: Reference | ReferenceInLearner
    judge: JudgeEngines | None = None
    """The engines of a second model that judges steps, where one does."""

    @property
    def handles(self) -> tuple[Handle, ...]:
        own = (self.learner, self.engines, self.graders, self.reference)
        return own if self.judge is None else (*own, self.judge)

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Gives all actors their settings and weights, and the learner the reference's frozen head and its way to the
        engines."""
        super().load(config, model_dir)
        self.reference.lend_head(self.learner)
        self.engines.connect(self.learner, config)
        if self.judge is not None:
            self.judge.use_loaded()


@dataclass(kw_only=True)
class OtherCrew(Crew):
    """Has the actors of a kind of run with roles of its own, such as a plugin's. ``members``: handles by the names that
    other crews have as fields; they are attributes here too."""

    members: dict[str, Handle]

    def __getattr__(self, name: str) -> Any:
        members = self.__dict__.get("members", {})
        if name not in members:
            raise AttributeError(f"this kind of run has no {name}: it has {', '.join(members) or 'no actors'}")
        return members[name]

    @property
    def handles(self) -> tuple[Handle, ...]:
        return tuple(self.members.values())

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Gives all actors their settings and weights, and the learner the frozen head of a reference, if both are
        there."""
        super().load(config, model_dir)
        if {"learner", "reference"} <= set(self.members):
            self.reference.lend_head(self.learner)
        if {"learner", "engines"} <= set(self.members):
            self.engines.connect(self.learner, config)


CREWS: dict[frozenset[str], type[Crew]] = {
    frozenset(["learner"]): LearnerCrew,
    frozenset(["engines", "graders"]): EvaluationCrew,
    frozenset(["learner", "engines", "graders", "reference"]): TrainingCrew,
    frozenset(["learner", "engines", "graders", "reference", "judge"]): TrainingCrew,
}


def crew_of(started: Mapping[str, list[Any]], config: RunConfig, ask: Asker) -> Crew:
    """Returns the crew of the roles that were started, each with its actors."""
    common: dict[str, Any] = {
        "actors": [actor for actors in started.values() for actor in actors],
        "names": [f"{role} {k}" for role, actors in started.items() for k in range(len(actors))],
        "ask": ask,
    }
    make: dict[str, tuple[str, Callable[[list[Any]], Handle]]] = {
        "learner": ("learner", lambda actors: Learner(actors, config.learner.gpus_per_rank, ask)),
        "rollout": ("engines", lambda actors: Engines(actors, ask, members["learner"] if colocated(config) else None)),
        "grading": ("graders", lambda actors: Graders(actors, ask)),
        "reference": ("reference", lambda actors: Reference(actors, ask)),
        "judge": ("judge", lambda actors: JudgeEngines(actors, ask)),
    }
    members: dict[str, Any] = {}
    for role, (name, build) in make.items():
        if role in started:
            members[name] = build(started[role])
    if reference_in_learner(config) and "learner" in members:
        members["reference"] = ReferenceInLearner()
    kind = CREWS.get(frozenset(members))
    return kind(**common, **members) if kind is not None else OtherCrew(**common, members=members)


START_TIMEOUT_S = 300.0


@contextmanager
def crew(
    config: RunConfig,
    say: Callable[[str], None] = print,
    check: Callable[[], None] = lambda: None,
    drained: Callable[[str], None] = lambda reason: None,
    stopped: Callable[[], int] = lambda: 0,
) -> Iterator[Any]:
    """Starts the actors that the plan names, once there is room for all of them; ends them at the end of the block.
    Yields the crew of their kind.

    ``say``, ``check``: see :func:`carerl.actors.cluster.placement.reserved`. ``drained`` is called with the reason, on
    another thread, when one of their nodes is about to go or the cluster's head is gone. ``stopped`` returns the exit
    code of a stop that was asked for, 0 without one. Raises NotPlaced; what Ray raises becomes ActorFailed."""
    classes: dict[str, type] = {
        "learner": LearnerWorker,
        "rollout": EngineWorker,
        "grading": GraderWorker,
        "reference": ReferenceWorker,
        "judge": EngineWorker,
    }
    if config.profile:
        classes = {role: profiling.traced(worker) for role, worker in classes.items()}
    remote = {role: ray.remote(concurrency_groups={WATCH: 1, WRITE: 1})(worker) for role, worker in classes.items()}
    before = oom_kills()
    head = Head(drained)
    ask = Asker(
        config.cluster,
        stopped,
        check,
        head.gone,
        lambda: oom_kills() - before,
        str(ray.util.get_node_ip_address()),
        lambda role, phase: advice(config, role, phase),
    )
    everyone: list[Any] = []
    try:
        with (
            raylets_words(ask.log),
            head.watched(),
            reserved(actor_groups(config), config.cluster.wait_seconds, say, check) as room,
        ):
            started = {
                role: [remote[role].options(**options).remote() for options in places]
                for role, places in room.options.items()
            }
            everyone += [actor for actors in started.values() for actor in actors]
            try:
                _wait_until_started(started, ask, check)
                preparing = _prepare(started, config)
                if colocated(config):  # nobody else takes memory of a GPU while its engine is built
                    ask(preparing, "load")
                with watched(room.nodes, drained, say):
                    yield crew_of(started, config, ask)
            finally:
                end(ask.members.values(), everyone, head.lost())
    except RayError as error:
        raise ask.translated(error) from error


def _prepare(started: dict[str, list[Any]], config: RunConfig) -> list[Any]:
    """Has actors do what they can while a base model is made or the learner loads. Nobody has to wait for it: a failure
    here is raised by their ``load``. Returns what to wait for where engines share GPUs."""
    base = base_config(config) if config.model.base_recipe else None
    for actor in started.get("reference", []):
        actor.prepare.remote(config)
    preparing = [actor.prepare.remote(config, base) for actor in started.get("rollout", [])]
    return preparing + [actor.prepare.remote(judge_run(config)) for actor in started.get("judge", [])]


def _wait_until_started(started: dict[str, list[Any]], ask: Asker, check: Callable[[], None]) -> None:
    """Waits until every actor's process runs, and enlists it with ``ask``. Raises NotPlaced, or ActorFailed with what
    its constructor raised."""
    waiting = {
        actor.ready.remote(): (f"{role} {number}", actor)
        for role, actors in started.items()
        for number, actor in enumerate(actors)
    }
    for name, actor in waiting.values():
        ask.enlist(name, actor)
    deadline = time.monotonic() + START_TIMEOUT_S
    pending = list(waiting)
    while pending and time.monotonic() < deadline:
        done, pending = ask.some(pending, "start")
        for ref, (pid, node) in done.items():
            ask.enlist(*waiting[ref], pid, node)
        check()
    if pending:
        roles = sorted({waiting[ref][0].split(" ")[0] for ref in pending})
        raise NotPlaced(
            f"after {START_TIMEOUT_S:.0f} s the processes of {', '.join(roles)} have not started, though their "
            "resources are reserved; Ray's logs of the node (raylet.out, /tmp/ray/session_latest/logs) say why"
        )
