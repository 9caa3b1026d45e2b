"""The engines as a driver uses them: prompts in, groups of responses out, under one version of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carerl.actors.handles.base import Handle, shares
from carerl.actors.handles.learner import Learner
from carerl.actors.health.asking import Asker
from carerl.actors.turns import ASLEEP, Turns
from carerl.backends.engines.base import Query, Request
from carerl.backends.transfer.base import Sent
from carerl.config.schema import RunConfig
from carerl.config.transfer import transfer_kind
from carerl.types import Completion, Example, Group, Sample, Sampling


class Engines(Handle):
    """Sends prompts and weights to the actors that generate. ``version``: the number of the weights that they hold.

    ``sharing``: the learner whose ranks share their GPUs with the engines; None for engines with GPUs of their own,
    which never sleep."""

    def __init__(self, actors: list[Any], ask: Asker | None = None, sharing: Learner | None = None) -> None:
        super().__init__(actors, ask)
        self.version = 0
        self._sharing = sharing
        self._turns = Turns(sharing is not None, ASLEEP)  # so they are before they are built, too
        if sharing is not None:
            sharing.share(self._turns, self.sleep)

    def connect(self, learner: Learner, config: RunConfig) -> None:
        """Has the learner make its sender to these engines, of the kind that the settings and the nodes allow."""
        first, *nodes = self._ask([learner.first.node_ip.remote(), *(a.node_ip.remote() for a in self._actors)], "load")
        kind = transfer_kind(config, together=set(nodes) == {first})
        learner.open_transfer(kind, self._actors, len(self._actors) * config.rollout.tensor_parallel)

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        """Starts loading, see :meth:`carerl.actors.handles.base.Handle.load`. Engines that share their GPUs sleep at
        its end."""
        self._turns.done("sleep")
        return super().load(config, model_dir)

    @property
    def shared(self) -> bool:
        """True if the engines share their GPUs with the learner."""
        return self._turns.shared

    def sleep(self) -> None:
        """Has engines that share their GPUs give up the memory, and then the learner take back its own. Does nothing if
        they sleep, or have GPUs of their own."""
        if self._turns.due("sleep"):
            self._all("sleep")
            self._turns.done("sleep")
            assert self._sharing is not None
            self._sharing.resume()

    def wake_weights(self) -> None:
        """Has the learner give up memory that only training needs, and then engines that share it take memory for
        weights, which :meth:`sync` brings. Raises WrongTurn."""
        if self._turns.due("wake_weights"):
            assert self._sharing is not None
            self._sharing.rest()
            self._all("wake_weights")
            self._turns.done("wake_weights")

    def wake_cache(self) -> None:
        """Has engines that share their GPUs take the rest of their memory, after a sync. Raises WrongTurn."""
        if self._turns.due("wake_cache"):
            self._all("wake_cache")
            self._turns.done("wake_cache")

    def _all(self, method: str) -> None:
        """Calls a method of every engine, and waits for all."""
        self._ask([getattr(actor, method).remote() for actor in self._actors], "sync")

    def sync(self, learner: Learner, version: int) -> Sent:
        """Has the learner bring its weights to every engine, which calls them ``version`` from then on; returns what
        was sent. Raises WrongTurn if engines that share their GPUs have no memory for weights."""
        self._turns.check("sync")
        sent = learner.send(self._actors)
        self._ask([actor.accept.remote(sent, version) for actor in self._actors], "sync")
        self.version = version
        return sent

    def use_loaded(self) -> None:
        """Has the engines generate with the weights that they were built with, where no learner sends any."""
        self._ask([actor.use_loaded.remote(self.version) for actor in self._actors], "load")

    def generate(self, examples: Sequence[Example], sampling: Sampling) -> list[Group]:
        """Returns one group for each example, in order. Which engine serves a prompt does not change its samples."""
        generation = self.start(sampling)
        generation.submit(dict(enumerate(examples)))
        return [group for _, group in generation.advance()()]

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Returns for each query the log-probs of its tokens after its prefix
        (:class:`carerl.backends.engines.base.Query`). Is called while nothing is being generated. Raises WrongTurn."""
        self._turns.check("generate")
        pending = [
            actor.next_logprobs.remote(queries[part], self.version)
            for actor, part in shares(self._actors, len(queries))
        ]
        return [found for part in self._ask(pending, "next tokens") for found in part]

    def start(self, sampling: Sampling) -> Generation:
        """Returns a generation with these settings, which still has no prompts."""
        return Generation(self._actors, sampling, self.version, self._ask, self._turns)


class Generation:
    """Sends numbered prompts through the engines, with one set of sampling settings and one version of the weights."""

    def __init__(self, actors: list[Any], sampling: Sampling, version: int, ask: Asker, turns: Turns) -> None:
        self._actors, self._sampling, self._version, self._ask = actors, sampling, version, ask
        self._turns = turns
        self._examples: dict[int, Example] = {}
        self._submitted: list[Any] = []
        self._open = [0] * len(actors)

    @property
    def open(self) -> int:
        """The number of prompts that are not known to have ended."""
        return sum(self._open)

    def submit(self, examples: Mapping[int, Example]) -> None:
        """Queues prompts, each at the engine that has the fewest left as far as is known. Their numbers determine their
        seeds. Raises WrongTurn while the engines sleep."""
        self._turns.check("generate")
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
        """Has every engine decode ``steps`` tokens of each sequence (0: until all have ended), after the calls that it
        has queued. Does not wait: the returned function does, and returns the groups that ended, sorted by number.
        Raises WrongTurn while the engines sleep."""
        self._turns.check("generate")
        busy = [engine for engine, open_ in enumerate(self._open) if open_]
        pending = [self._actors[engine].advance.remote(steps) for engine in busy]

        def wait() -> list[tuple[int, Group]]:
            self._ask(self._submitted, "generate")  # raises if an engine refused a prompt
            self._submitted.clear()
            ended: list[tuple[int, Group]] = []
            for engine, part in zip(busy, self._ask(pending, "generate"), strict=True):
                self._open[engine] -= len(part)
                ended += [(number, self._group(number, completions)) for number, completions in part]
            return sorted(ended, key=lambda pair: pair[0])

        return wait

    def cancel(self) -> None:
        """Has the engines forget all prompts that have not ended."""
        self._ask([actor.cancel.remote() for actor in self._actors], "generate")
        self._open = [0] * len(self._actors)

    def _group(self, number: int, completions: list[Completion]) -> Group:
        example = self._examples[number]
        samples = [Sample(example.id, c.token_ids, c.logprobs, c.truncated, c.versions) for c in completions]
        return Group(example, samples)
