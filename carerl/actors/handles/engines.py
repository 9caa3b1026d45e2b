"""The engines as a driver holds them: prompts in, groups of responses out, under one version of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carerl.actors.handles.base import PublishedWeights, shares
from carerl.actors.health.asking import Asker
from carerl.backends.engines.base import Query, Request
from carerl.config.schema import RunConfig
from carerl.types import Completion, Example, Group, Sample, Sampling


class Engines:
    """The engines."""

    def __init__(self, actors: list[Any], ask: Asker | None = None):
        self._actors = actors
        self._ask = ask or Asker()
        self.version = 0

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        return [actor.load.remote(config, model_dir) for actor in self._actors]

    def sync(self, weights: PublishedWeights, version: int) -> None:
        """Has every engine take the weights, which are ``version`` from then on."""
        # The references travel inside a list, so that the actor fetches them itself, bucket by bucket.
        arguments = (weights.buckets, version, weights.checksum)
        self._ask([actor.sync.remote(*arguments) for actor in self._actors], "sync")
        self.version = version

    def use_loaded(self) -> None:
        """Takes the weights that the engines were built with, where no learner sends any."""
        self._ask([actor.use_loaded.remote(self.version) for actor in self._actors], "load")

    def generate(self, examples: Sequence[Example], sampling: Sampling) -> list[Group]:
        """One group for each example, in order. Which engine serves a prompt does not change its samples."""
        generation = self.start(sampling)
        generation.submit(dict(enumerate(examples)))
        return [group for _, group in generation.advance()()]

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Of each query: log-probs of its tokens after its prefix, see the engines'. Nothing is being generated."""
        pending = [
            actor.next_logprobs.remote(queries[part], self.version)
            for actor, part in shares(self._actors, len(queries))
        ]
        return [found for part in self._ask(pending, "next tokens") for found in part]

    def start(self, sampling: Sampling) -> Generation:
        return Generation(self._actors, sampling, self.version, self._ask)


class Generation:
    """Numbered prompts on their way through the engines, under one setting and one version of the weights."""

    def __init__(self, actors: list[Any], sampling: Sampling, version: int, ask: Asker):
        self._actors, self._sampling, self._version, self._ask = actors, sampling, version, ask
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
        parts: list[list[Request]] = [[] for _ in self._actors]
        for number, example in examples.items():
            engine = self._open.index(min(self._open))
            parts[engine].append(Request(number, example.prompt_ids))
            self._open[engine] += 1
            self._examples[number] = example
        self._submitted += [
            actor.submit.remote(share, self._sampling, self._version)
            for actor, share in zip(self._actors, parts, strict=True)
            if share
        ]

    def advance(self, steps: int = 0) -> Callable[[], list[tuple[int, Group]]]:
        """Has every engine decode ``steps`` tokens of each sequence (0: all there are), behind what it was told before;
        the returned function waits for that and gives the numbered groups that ended, in order."""
        busy = [engine for engine, open_ in enumerate(self._open) if open_]
        pending = [self._actors[engine].advance.remote(steps) for engine in busy]

        def wait() -> list[tuple[int, Group]]:
            self._ask(self._submitted, "generate")  # a refusal is told here
            self._submitted.clear()
            ended: list[tuple[int, Group]] = []
            for engine, part in zip(busy, self._ask(pending, "generate"), strict=True):
                self._open[engine] -= len(part)
                ended += [(number, self._group(number, completions)) for number, completions in part]
            return sorted(ended, key=lambda pair: pair[0])

        return wait

    def cancel(self) -> None:
        """Has the engines forget what has not ended."""
        self._ask([actor.cancel.remote() for actor in self._actors], "generate")
        self._open = [0] * len(self._actors)

    def _group(self, number: int, completions: list[Completion]) -> Group:
        example = self._examples[number]
        samples = [Sample(example.id, c.token_ids, c.logprobs, c.truncated, c.versions) for c in completions]
        return Group(example, samples)
