"""The driver's side of the actors: one handle a role, and the crew that holds them.

Handles pass object references on: a batch is put into the object store once, and the reference's streams
go from its actor to the learner's without passing through the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from torch import Tensor

from carerl.actors import profiling
from carerl.actors.cluster.placement import NotPlaced, reserved
from carerl.actors.handles.engines import Rollout, shares
from carerl.actors.health.asking import WATCH, Asker
from carerl.actors.health.draining import watched
from carerl.actors.health.ending import end
from carerl.actors.health.error_log import raylets_words
from carerl.actors.health.heads import Head
from carerl.actors.health.oom import oom_kills
from carerl.actors.workers import base as workers
from carerl.actors.workers import grader as grading
from carerl.backends.learners.base import Minibatch
from carerl.config.cores import Threads
from carerl.config.load import base_config
from carerl.config.roles import actor_groups
from carerl.config.schema import RunConfig
from carerl.grading import Verdict
from carerl.grading.pool import Job
from carerl.loss.objective import Strengths
from carerl.text.printable import printable
from carerl.types import Group, Outcome, Recording, RunError, TokenBatch


class GradingError(RunError):
    """The grader or the reward fails on everything."""


class Grading:
    def __init__(self, actors: list[Any], ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()
        self._raised = ""
        self._told = 0.0  # the largest share of responses without a grade that was told of

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        self._raised, self._told = "", 0.0  # of another run, in a sweep
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def grade(self, groups: list[Group]) -> list[Group]:
        """The groups with outcomes, answers, confidences and rewards filled in."""
        parts = [actor.grade.remote(groups[part]) for actor, part in shares(self._actors, len(groups))]
        graded = []
        for part, raised in self._ask(parts, "reward"):
            graded += part
            self._raised = raised or self._raised
        return graded

    def verdicts(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Verdicts on texts, under the limits of the graders' processes."""
        pending = [actor.verdicts.remote(list(jobs[part])) for actor, part in shares(self._actors, len(jobs))]
        return [verdict for part in self._ask(pending, "grade") for verdict in part]

    def check(self, groups: Sequence[Group], most: float = 1.0) -> str:
        """What to tell of graded responses that could not be graded, '' where it was told or there are none. They are
        trained on as wrong ones, or left out of an evaluation's figures: raises GradingError where their share is above
        ``most``, or all of them are. For a step's or a suite's groups, as a few prompts alone prove nothing."""
        samples = [sample for group in groups for sample in group.samples]
        invalid = sum(sample.outcome is Outcome.INVALID for sample in samples)
        if not invalid:
            return ""
        share = invalid / len(samples)
        failure = f"the last failure: {printable(self._raised)}"
        if invalid == len(samples):
            raise GradingError(f"no response of {len(groups)} prompts could be graded; {failure}")
        text = f"{invalid} of {len(samples)} responses could not be graded; {failure}"
        if share > most:
            raise GradingError(
                f"{text}\n  remedy: mend the grader or the reward; such responses count as wrong, and "
                f"grading.max_invalid={most:g} is the share that may"
            )
        if share < 2 * self._told:
            return ""
        self._told = share
        return f"{text}; they count as wrong (a share of more than {most:g} ends the run: grading.max_invalid)"


class Reference:
    def __init__(self, actors: list[Any], ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def head(self) -> Any:
        """A reference to the frozen head (V, D), once it is there."""
        found = self._actors[0].head.remote()
        self._ask.wait([found], "load")
        return found

    def score(self, batch: Any, rows: int, with_hidden: bool) -> list[Any]:
        """References to the streams of contiguous shares of a batch (itself a reference, of ``rows`` rows), one an
        actor, in order, once they are there: a learner that was given one which is still to come could not be asked
        whether it is alive."""
        parts = shares(self._actors, rows)
        found = [actor.score.remote(batch, part.start, part.stop, with_hidden) for actor, part in parts]
        self._ask.wait(found, "reference")
        return found


class Learner:
    def __init__(self, actors: list[Any], gpus_per_rank: float, ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()
        nodes = self._ask([actor.node_ip.remote() for actor in actors], "start")
        host = nodes[0] if len(set(nodes)) > 1 else workers.LOOPBACK
        port = self._ask(actors[0].meet.remote(len(actors), host), "start")
        joining = [actor.join.remote(rank, len(actors), host, port, gpus_per_rank) for rank, actor in enumerate(actors)]
        self._ask(joining, "start")

    def _all(self, phase: str, method: str, *arguments: Any) -> list[Any]:
        return list(self._ask([getattr(actor, method).remote(*arguments) for actor in self._actors], phase))

    def begin(self, config: RunConfig, model_dir: str) -> None:
        """Loads, and waits for it."""
        self._ask(self.load(config, model_dir), "load")

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def set_reference_head(self, head: Any) -> None:
        self._all("load", "set_reference_head", head)

    def update(
        self, batch: Any, streams: Sequence[Any], minibatches: Sequence[Minibatch], lr: float, strengths: Strengths
    ) -> dict[str, float]:
        """Metrics of the optimizer steps; every rank reports the same. ``streams``: see :meth:`Reference.score`."""
        return self._all("train", "update", list(minibatches), lr, strengths, batch, *streams)[0]

    def update_many(self, steps: list[tuple[TokenBatch, list[Minibatch], float]]) -> Callable[[], Any]:
        """Starts several supervised steps; the returned function waits for their metrics."""
        ref = self._ask.put(steps)
        pending = [actor.update_many.remote(ref) for actor in self._actors]
        return lambda: self._ask(pending, "train")[0]

    def score(self, batch: TokenBatch, streams: Sequence[Any] = ()) -> dict[str, Tensor]:
        """(B, T) streams of a batch: logprobs, entropy, rkl (see the learner)."""
        parts = self._all("score", "score", self._ask.put(batch), *streams)
        whole = {name: torch.zeros(batch.rows, batch.width) for name in parts[0][1]}
        for rows, values in parts:
            for name, stream in values.items():
                whole[name][rows] = stream
        return whole

    def publish(self) -> tuple[list[Any], int]:
        """All weights as bucket references, with their checksum."""
        pending = [actor.publish.remote(rank == 0) for rank, actor in enumerate(self._actors)]
        found: tuple[list[Any], int] = self._ask(pending, "sync")[0]
        return found

    def save(self, directory: Path) -> dict[str, int]:
        """Returns name and size of every file that some rank sees there afterwards."""
        seen: dict[str, int] = {}
        for files in self._all("save", "save", str(directory)):  # another rank may see a file shorter than it is
            seen |= {name: max(size, seen.get(name, 0)) for name, size in files.items()}
        return seen

    def restore(self, directory: Path) -> None:
        self._all("restore", "restore", str(directory))

    def export(self, directory: Path, tokenizer: Any, dtype: str) -> None:
        writing = [
            actor.export.remote(str(directory), tokenizer, rank == 0, dtype) for rank, actor in enumerate(self._actors)
        ]
        self._ask(writing, "export")

    def rss_gib(self) -> float:
        return float(sum(self._all("memory", "rss_gib")))


@dataclass
class Crew:
    """The actors of a run. A supervised run has a learner only, an evaluation of a model engines and graders."""

    _learner: Learner | None
    rollout: Rollout | None
    grading: Grading | None
    reference: Reference | None
    actors: list[Any]
    names: list[str] = field(default_factory=list)
    ask: Asker = field(default_factory=Asker)

    @property
    def learner(self) -> Learner:
        assert self._learner is not None, "an evaluation trains nothing"
        return self._learner

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Gives all actors their settings and weights. May be called again with another run's."""
        roles = (self._learner, self.rollout, self.grading, self.reference)
        self.ask([pending for role in roles if role is not None for pending in role.load(config, model_dir)], "load")
        if self.reference is not None:
            self.learner.set_reference_head(self.reference.head())

    def threads(self) -> dict[str, Threads]:
        """What each actor computes with, by its role and number."""
        found = self.ask([actor.threads.remote() for actor in self.actors], "threads")
        return dict(zip(self.names, found, strict=True))

    def record(self, ops: bool) -> None:
        """Has every actor begin a recording."""
        self.ask([actor.record.remote(ops) for actor in self.actors], "profile")

    def recorded(self) -> list[Recording]:
        """The actors' recordings, each under its role and number."""
        found = self.ask([actor.recorded.remote() for actor in self.actors], "profile")
        for name, recording in zip(self.names, found, strict=True):
            recording.process = name
        return list(found)

    def rss_gib(self) -> float:
        """Peak resident memory of all actors together, without the processes that they start."""
        return float(sum(self.ask([actor.rss_gib.remote() for actor in self.actors], "memory")))

    def put(self, value: Any) -> Any:
        return self.ask.put(value)


START_TIMEOUT_S = 300.0


@contextmanager
def crew(
    config: RunConfig,
    say: Callable[[str], None] = print,
    check: Callable[[], None] = lambda: None,
    drained: Callable[[str], None] = lambda reason: None,
    stopped: Callable[[], int] = lambda: 0,
) -> Iterator[Crew]:
    """Starts the actors that the plan names once there is room for all of them, and ends them. See
    :func:`carerl.actors.cluster.placement.reserved` for ``say`` and ``check``; ``drained`` is told, on another thread,
    when a node of theirs is about to go or the cluster's head is gone; ``stopped`` gives the exit code of a stop that
    was asked for, 0 without one. What Ray raises leaves it as ActorFailed."""
    classes: dict[str, type] = {
        "learner": workers.LearnerWorker,
        "rollout": workers.RolloutWorker,
        "grading": grading.RewardWorker,
        "reference": workers.ReferenceWorker,
    }
    if config.profile:
        classes = {role: profiling.traced(worker) for role, worker in classes.items()}
    remote = {role: ray.remote(concurrency_groups={WATCH: 1})(worker) for role, worker in classes.items()}
    before = oom_kills()
    head = Head(drained)
    ask = Asker(
        config.cluster, stopped, check, head.gone, lambda: oom_kills() - before, str(ray.util.get_node_ip_address())
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
                _prepare(started, config)
                with watched(room.nodes, drained, say):
                    yield Crew(
                        Learner(started["learner"], config.learner.gpus_per_rank, ask)
                        if "learner" in started
                        else None,
                        rollout=Rollout(started["rollout"], ask) if "rollout" in started else None,
                        grading=Grading(started["grading"], ask) if "grading" in started else None,
                        reference=Reference(started["reference"], ask) if "reference" in started else None,
                        actors=everyone,
                        names=[f"{role} {k}" for role, actors in started.items() for k in range(len(actors))],
                        ask=ask,
                    )
            finally:
                end(ask.members.values(), everyone, head.lost())
    except RayError as error:
        raise ask.translated(error) from error


def _prepare(started: dict[str, list[Any]], config: RunConfig) -> None:
    """Has actors do what they can while a base model is made or the learner loads. Nobody waits for it: what fails here
    is told by ``load``."""
    base = base_config(config) if config.model.base_recipe else None
    for actor in started.get("rollout", []):
        actor.prepare.remote(config, base)
    for actor in started.get("reference", []):
        actor.prepare.remote(config)


def _wait_until_started(started: dict[str, list[Any]], ask: Asker, check: Callable[[], None]) -> None:
    """Enlists every actor once its process runs. Raises NotPlaced, or ActorFailed with what its constructor raised."""
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
