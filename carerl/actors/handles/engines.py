"""The engines as a driver uses them: prompts in, responses out, under one version of the weights.

:class:`Flow` sends requests and gives completions as they end. :class:`Generation` is a flow of a task's questions,
whose completions are groups of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from carerl.actors.handles.base import Handle, shares
from carerl.actors.handles.learner import Learner
from carerl.actors.health.asking import Asker
from carerl.actors.turns import ASLEEP, Turns
from carerl.backends.engines.base import Query, Request
from carerl.backends.transfer.base import Sent
from carerl.config.judging import judge_run
from carerl.config.schema import RunConfig
from carerl.config.shapes import absolute_path
from carerl.config.transfer import transfer_kind
from carerl.types import Completion, Example, Group, Sample, Sampling

ROUND = 16  # tokens; after so many, whoever waits for completions can be stopped


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

    def likeliest(self, prefixes: Sequence[tuple[int, ...]], k: int = 2) -> list[list[tuple[int, float]]]:
        """Returns for each prefix the ``k`` likeliest next tokens and their log-probs, see
        :meth:`carerl.backends.engines.base.Engine.likeliest`. Is called while nothing is being generated. Raises
        WrongTurn."""
        self._turns.check("generate")
        pending = [
            actor.likeliest.remote(prefixes[part], k, self.version)
            for actor, part in shares(self._actors, len(prefixes))
        ]
        return [found for part in self._ask(pending, "next tokens") for found in part]

    def complete(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        go_on: Callable[[], bool] = lambda: True,
        homes: Sequence[Hashable] = (),
    ) -> list[list[Completion]]:
        """Returns the ``sampling.n`` completions of each request, in the order of the requests; [] if it was stopped.

        Args:
            requests: each with a number of its own.
            sampling: a request may have a seed and a length of its own, see
                :class:`carerl.backends.engines.base.Request`.
            go_on: is called after every few tokens. Returns False to stop: the engines then forget the rest.
            homes: one a request, as for :meth:`Flow.submit`. Requests with a long prefix in common should share one.

        Raises WrongTurn while the engines sleep.
        """
        flow = self.flow()
        flow.submit(requests, sampling, homes)
        ended: dict[int, list[Completion]] = {}
        while flow.open:
            ended |= dict(flow.advance(ROUND)())
            if not go_on():
                flow.cancel()
                return []
        return [ended[request.number] for request in requests]

    def flow(self) -> Flow:
        """Returns a flow of requests under the version of the weights that the engines have now."""
        return Flow(self._actors, self.version, self._ask, self._turns)

    def start(self, sampling: Sampling) -> Generation:
        """Returns a generation with these settings, which still has no prompts."""
        return Generation(self.flow(), sampling)


class JudgeEngines(Engines):
    """Sends prompts to the engines of a second model, whose weights nobody replaces."""

    def load(self, config: RunConfig, model_dir: str) -> list[Any]:
        """Starts loading the second model of a run on every actor; returns what to wait for."""
        own = judge_run(config)
        return super().load(own, absolute_path(own.model.path))


class Flow:
    """Sends numbered requests through the engines, under one version of the weights. Requests join while others are
    decoded."""

    def __init__(self, actors: list[Any], version: int, ask: Asker, turns: Turns) -> None:
        self._actors, self._version, self._ask, self._turns = actors, version, ask, turns
        self._submitted: list[Any] = []
        self._open = [0] * len(actors)
        self._homes: dict[Hashable, int] = {}

    @property
    def open(self) -> int:
        """The number of requests that are not known to have ended."""
        return sum(self._open)

    def submit(self, requests: Sequence[Request], sampling: Sampling, homes: Sequence[Hashable] = ()) -> None:
        """Queues requests. No other request of this flow that has not ended has the same number.

        ``homes``: one a request, or none. All requests of one home go to the same engine, now and later, so that what
        their prompts have in common is in its prefix cache. Otherwise a request goes to the engine that has the fewest
        left as far as is known. Raises WrongTurn while the engines sleep.
        """
        self._turns.check("generate")
        parts: list[list[Request]] = [[] for _ in self._actors]
        for k, request in enumerate(requests):
            engine = self._open.index(min(self._open))
            if homes:
                engine = self._homes.setdefault(homes[k], engine)
            parts[engine].append(request)
            self._open[engine] += 1
        self._submitted += [
            actor.submit.remote(share, sampling, self._version)
            for actor, share in zip(self._actors, parts, strict=True)
            if share
        ]

    def advance(self, steps: int = 0) -> Callable[[], list[tuple[int, list[Completion]]]]:
        """Has every engine decode ``steps`` tokens of each sequence (0: until all have ended), after the calls that it
        has queued. Does not wait: the returned function does, and returns the completions of the requests that ended,
        with their numbers, sorted by number. Raises WrongTurn while the engines sleep."""
        self._turns.check("generate")
        busy = [engine for engine, open_ in enumerate(self._open) if open_]
        pending = [self._actors[engine].advance.remote(steps) for engine in busy]

        def wait() -> list[tuple[int, list[Completion]]]:
            self._ask(self._submitted, "generate")  # raises if an engine refused a prompt
            self._submitted.clear()
            ended: list[tuple[int, list[Completion]]] = []
            for engine, part in zip(busy, self._ask(pending, "generate"), strict=True):
                self._open[engine] -= len(part)
                ended += part
            return sorted(ended, key=lambda pair: pair[0])

        return wait

    def cancel(self) -> None:
        """Has the engines forget all requests that have not ended."""
        self._ask([actor.cancel.remote() for actor in self._actors], "generate")
        self._open = [0] * len(self._actors)


class Generation:
    """Sends a task's questions through the engines, by number, with one set of sampling settings."""

    def __init__(self, flow: Flow, sampling: Sampling) -> None:
        self._flow, self._sampling = flow, sampling
        self._examples: dict[int, Example] = {}

    @property
    def open(self) -> int:
        """The number of prompts that are not known to have ended."""
        return self._flow.open

    def submit(self, examples: Mapping[int, Example]) -> None:
        """Queues prompts. Their numbers determine their seeds. Raises WrongTurn while the engines sleep."""
        self._examples |= examples
        requests = [Request(number, example.prompt_ids) for number, example in examples.items()]
        self._flow.submit(requests, self._sampling)

    def advance(self, steps: int = 0) -> Callable[[], list[tuple[int, Group]]]:
        """Has every engine decode ``steps`` tokens of each sequence, see :meth:`Flow.advance`. The returned function
        waits, and returns the groups that ended, sorted by number."""
        wait = self._flow.advance(steps)
        return lambda: [(number, self._group(number, completions)) for number, completions in wait()]

    def cancel(self) -> None:
        """Has the engines forget all prompts that have not ended."""
        self._flow.cancel()

    def _group(self, number: int, completions: list[Completion]) -> Group:
        example = self._examples[number]
        samples = [Sample(example.id, c.token_ids, c.logprobs, c.truncated, c.versions) for c in completions]
        return Group(example, samples)
