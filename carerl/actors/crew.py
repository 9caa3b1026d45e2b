"""The driver's side of the actors: one handle a role, and the crew that holds them.

Handles pass object references on: a batch is put into the object store once, and the reference's streams
go from its actor to the learner's without passing through the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from carerl.actors import grading, profiling, workers
from carerl.actors.draining import watched
from carerl.actors.placement import NotPlaced, reserved
from carerl.algorithms.objective import Strengths
from carerl.backends.engines import Query, Request
from carerl.backends.grader_pool import Job
from carerl.backends.learners import Minibatch
from carerl.config.actors import actor_groups
from carerl.config.cores import Threads
from carerl.config.load import base_config
from carerl.config.printable import printable
from carerl.config.schema import RunConfig
from carerl.tasks.grading import Verdict
from carerl.types import Completion, Example, Group, Outcome, Recording, RunError, Sample, Sampling, TokenBatch


class GradingError(RunError):
    """The grader or the reward fails on everything."""


def _shares(actors: list[Any], items: int) -> list[tuple[Any, slice]]:
    """Each actor with its contiguous share of the items, even to one; actors without any are left out."""
    ends = [items * k // len(actors) for k in range(len(actors) + 1)]
    return [(actor, slice(a, b)) for actor, a, b in zip(actors, ends, ends[1:], strict=False) if b > a]


class Rollout:
    """The engines."""

    def __init__(self, actors: list[Any]):
        self._actors = actors
        self.version = 0

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def sync(self, bucket_refs: list[Any], version: int, checksum: int) -> None:
        # The references travel inside a list, so that the actor fetches them itself, bucket by bucket.
        ray.get([actor.sync.remote(bucket_refs, version, checksum) for actor in self._actors])
        self.version = version

    def use_loaded(self) -> None:
        """Takes the weights that the engines were built with, where no learner sends any."""
        ray.get([actor.use_loaded.remote(self.version) for actor in self._actors])

    def generate(self, examples: Sequence[Example], sampling: Sampling) -> list[Group]:
        """One group for each example, in order. Which engine serves a prompt does not change its samples."""
        generation = self.start(sampling)
        generation.submit(dict(enumerate(examples)))
        return [group for _, group in generation.advance()()]

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Of each query: log-probs of its tokens after its prefix, see the engines'. Nothing is being generated."""
        pending = [
            actor.next_logprobs.remote(queries[part], self.version)
            for actor, part in _shares(self._actors, len(queries))
        ]
        return [found for part in ray.get(pending) for found in part]

    def start(self, sampling: Sampling) -> Generation:
        return Generation(self._actors, sampling, self.version)


class Generation:
    """Numbered prompts on their way through the engines, under one setting and one version of the weights."""

    def __init__(self, actors: list[Any], sampling: Sampling, version: int):
        self._actors, self._sampling, self._version = actors, sampling, version
        self._examples: dict[int, Example] = {}
        self._submitted: list[Any] = []
        self._open = [0] * len(actors)

    @property
    def open(self) -> int:
        """Prompts whose end is not known yet."""
        return sum(self._open)

    def submit(self, examples: Mapping[int, Example]) -> None:
        """Queues prompts by their numbers, from which their seeds follow, each at the engine that is known to have the
        fewest left."""
        shares: list[list[Request]] = [[] for _ in self._actors]
        for number, example in examples.items():
            engine = self._open.index(min(self._open))
            shares[engine].append(Request(number, example.prompt_ids))
            self._open[engine] += 1
            self._examples[number] = example
        self._submitted += [
            actor.submit.remote(share, self._sampling, self._version)
            for actor, share in zip(self._actors, shares, strict=True)
            if share
        ]

    def advance(self, steps: int = 0) -> Callable[[], list[tuple[int, Group]]]:
        """Has every engine decode ``steps`` tokens of each sequence (0: all there are), behind what it was told before;
        the returned function waits for that and gives the numbered groups that ended, in order."""
        busy = [engine for engine, open_ in enumerate(self._open) if open_]
        pending = [self._actors[engine].advance.remote(steps) for engine in busy]

        def wait() -> list[tuple[int, Group]]:
            ray.get(self._submitted)  # a refusal is told here
            self._submitted.clear()
            ended: list[tuple[int, Group]] = []
            for engine, part in zip(busy, ray.get(pending), strict=True):
                self._open[engine] -= len(part)
                ended += [(number, self._group(number, completions)) for number, completions in part]
            return sorted(ended, key=lambda pair: pair[0])

        return wait

    def cancel(self) -> None:
        """Has the engines forget what has not ended."""
        ray.get([actor.cancel.remote() for actor in self._actors])
        self._open = [0] * len(self._actors)

    def _group(self, number: int, completions: list[Completion]) -> Group:
        example = self._examples[number]
        samples = [Sample(example.id, c.token_ids, c.logprobs, c.truncated, self._version) for c in completions]
        return Group(example, samples)


class Grading:
    def __init__(self, actors: list[Any]):
        self._actors = actors
        self._raised = ""

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def grade(self, groups: list[Group]) -> list[Group]:
        """The groups with outcomes, answers, confidences and rewards filled in."""
        parts = [actor.grade.remote(groups[part]) for actor, part in _shares(self._actors, len(groups))]
        graded = []
        for part, raised in ray.get(parts):
            graded += part
            self._raised = raised or self._raised
        return graded

    def verdicts(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Verdicts on texts, under the limits of the graders' processes."""
        parts = [actor.verdicts.remote(list(jobs[part])) for actor, part in _shares(self._actors, len(jobs))]
        return [verdict for part in ray.get(parts) for verdict in part]

    def check(self, groups: Sequence[Group]) -> None:
        """Raises GradingError if none of these graded responses could be graded: not a strange response, but a broken
        grader. For a step's or a suite's groups, as a few prompts alone prove nothing."""
        if all(sample.outcome is Outcome.INVALID for group in groups for sample in group.samples):
            raise GradingError(
                f"no response of {len(groups)} prompts could be graded; the last failure: {printable(self._raised)}"
            )


class Reference:
    def __init__(self, actors: list[Any]):
        self._actors = actors

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def head(self) -> Any:
        """A reference to the frozen head (V, D)."""
        return self._actors[0].head.remote()

    def score(self, batch: Any, rows: int, with_hidden: bool) -> list[Any]:
        """References to the streams of contiguous shares of a batch (itself a reference, of ``rows`` rows), one an
        actor, in order."""
        shares = _shares(self._actors, rows)
        return [actor.score.remote(batch, part.start, part.stop, with_hidden) for actor, part in shares]


class Learner:
    def __init__(self, actors: list[Any], gpus_per_rank: float):
        self._actors = actors
        ip, port = ray.get([actors[0].node_ip.remote(), actors[0].free_port.remote()])
        ray.get(
            [actor.join.remote(rank, len(actors), f"{ip}:{port}", gpus_per_rank) for rank, actor in enumerate(actors)]
        )

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return list(ray.get([getattr(actor, method).remote(*arguments) for actor in self._actors]))

    def begin(self, config: RunConfig, model_dir: str) -> None:
        """Loads, and waits for it."""
        ray.get(self.load(config, model_dir))

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def set_reference_head(self, head: Any) -> None:
        self._all("set_reference_head", head)

    def update(
        self, batch: Any, streams: Sequence[Any], minibatches: Sequence[Minibatch], lr: float, strengths: Strengths
    ) -> dict[str, float]:
        """Metrics of the optimizer steps; every rank reports the same. ``streams``: see :meth:`Reference.score`."""
        return self._all("update", list(minibatches), lr, strengths, batch, *streams)[0]

    def update_many(self, steps: list[tuple[TokenBatch, list[Minibatch], float]]) -> Callable[[], Any]:
        """Starts several supervised steps; the returned function waits for their metrics."""
        ref = ray.put(steps)
        pending = [actor.update_many.remote(ref) for actor in self._actors]
        return lambda: ray.get(pending)[0]

    def score(self, batch: TokenBatch, streams: Sequence[Any] = ()) -> dict[str, Tensor]:
        """(B, T) streams of a batch: logprobs, entropy, rkl (see the learner)."""
        parts = self._all("score", ray.put(batch), *streams)
        whole = {name: torch.zeros(batch.rows, batch.width) for name in parts[0][1]}
        for rows, values in parts:
            for name, stream in values.items():
                whole[name][rows] = stream
        return whole

    def publish(self) -> tuple[list[Any], int]:
        """All weights as bucket references, with their checksum."""
        pending = [actor.publish.remote(rank == 0) for rank, actor in enumerate(self._actors)]
        return ray.get(pending)[0]

    def save(self, directory: Path) -> dict[str, int]:
        """Returns name and size of every file that some rank sees there afterwards."""
        seen: dict[str, int] = {}
        for files in self._all("save", str(directory)):  # another rank's file may look shorter than it is by now
            seen |= {name: max(size, seen.get(name, 0)) for name, size in files.items()}
        return seen

    def restore(self, directory: Path) -> None:
        self._all("restore", str(directory))

    def export(self, directory: Path, tokenizer: Any, dtype: str) -> None:
        ray.get(
            [
                actor.export.remote(str(directory), tokenizer, rank == 0, dtype)
                for rank, actor in enumerate(self._actors)
            ]
        )

    def rss_gib(self) -> float:
        return float(sum(self._all("rss_gib")))


@dataclass
class Crew:
    """The actors of a run. A supervised run has a learner only, an evaluation of a model engines and graders."""

    _learner: Learner | None
    rollout: Rollout | None
    grading: Grading | None
    reference: Reference | None
    actors: list[Any]
    names: list[str] = field(default_factory=list)

    @property
    def learner(self) -> Learner:
        assert self._learner is not None, "an evaluation trains nothing"
        return self._learner

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Gives all actors their settings and weights. May be called again with another run's."""
        roles = (self._learner, self.rollout, self.grading, self.reference)
        ray.get([pending for role in roles if role is not None for pending in role.load(config, model_dir)])
        if self.reference is not None:
            self.learner.set_reference_head(self.reference.head())

    def threads(self) -> dict[str, Threads]:
        """What each actor computes with, by its role and number."""
        return dict(zip(self.names, ray.get([actor.threads.remote() for actor in self.actors]), strict=True))

    def record(self, ops: bool) -> None:
        """Has every actor begin a recording."""
        ray.get([actor.record.remote(ops) for actor in self.actors])

    def recorded(self) -> list[Recording]:
        """The actors' recordings, each under its role and number."""
        found = ray.get([actor.recorded.remote() for actor in self.actors])
        for name, recording in zip(self.names, found, strict=True):
            recording.process = name
        return list(found)

    def rss_gib(self) -> float:
        """Peak resident memory of all actors together, without the processes that they start."""
        return float(sum(ray.get([actor.rss_gib.remote() for actor in self.actors])))

    def put(self, value: Any) -> Any:
        return ray.put(value)

    def wait(self, references: list[Any]) -> None:
        """Until all values exist, without bringing them here."""
        ray.wait(references, num_returns=len(references), fetch_local=False)


START_TIMEOUT_S = 300.0


@contextmanager
def crew(
    config: RunConfig,
    say: Callable[[str], None] = print,
    check: Callable[[], None] = lambda: None,
    drained: Callable[[str], None] = lambda reason: None,
) -> Iterator[Crew]:
    """Starts the actors that the plan names once there is room for all of them, and ends them. See
    :func:`carerl.actors.placement.reserved` for ``say`` and ``check``; ``drained`` is told, on another thread, when a
    node of theirs is about to go."""
    classes: dict[str, type] = {
        "learner": workers.LearnerWorker,
        "rollout": workers.RolloutWorker,
        "grading": grading.RewardWorker,
        "reference": workers.ReferenceWorker,
    }
    if config.profile:
        classes = {role: profiling.traced(worker) for role, worker in classes.items()}
    with reserved(actor_groups(config), config.cluster.wait_seconds, say, check) as room:
        started = {
            role: [ray.remote(classes[role]).options(**options).remote() for options in places]
            for role, places in room.options.items()
        }
        everyone = [actor for actors in started.values() for actor in actors]
        try:
            _wait_until_started(started, check)
            _prepare(started, config)
            with watched(room.nodes, drained):
                yield Crew(
                    Learner(started["learner"], config.learner.gpus_per_rank) if "learner" in started else None,
                    rollout=Rollout(started["rollout"]) if "rollout" in started else None,
                    grading=Grading(started["grading"]) if "grading" in started else None,
                    reference=Reference(started["reference"]) if "reference" in started else None,
                    actors=everyone,
                    names=[f"{role} {k}" for role, actors in started.items() for k in range(len(actors))],
                )
        finally:
            for actor in everyone:
                ray.kill(actor)


def _prepare(started: dict[str, list[Any]], config: RunConfig) -> None:
    """Has actors do what they can while a base model is made or the learner loads. Nobody waits for it: what fails here
    is told by ``load``."""
    base = base_config(config) if config.model.base_recipe else None
    for actor in started.get("rollout", []):
        actor.prepare.remote(config, base)
    for actor in started.get("reference", []):
        actor.prepare.remote(config)


def _wait_until_started(started: dict[str, list[Any]], check: Callable[[], None]) -> None:
    waiting = {actor.ready.remote(): role for role, actors in started.items() for actor in actors}
    deadline = time.monotonic() + START_TIMEOUT_S
    pending = list(waiting)
    while pending and time.monotonic() < deadline:
        done, pending = ray.wait(pending, num_returns=len(pending), timeout=1.0)
        ray.get(done)  # what its constructor raised
        check()
    if pending:
        roles = sorted({waiting[ref] for ref in pending})
        raise NotPlaced(
            f"after {START_TIMEOUT_S:.0f} s the processes of {', '.join(roles)} have not started, though their "
            "resources are reserved; Ray's logs of the node (raylet.out, /tmp/ray/session_latest/logs) say why"
        )
