"""The protocol of a rollout engine.

An engine takes token ids and returns token ids. Text never enters or leaves it, so nothing is tokenised twice. It
holds one set of weights, which is replaced in place by four calls, as vLLM has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carerl.backends.transfer.digest import Received
from carerl.types import Completion, Sampling


@dataclass(frozen=True)
class Request:
    """A prompt with a number. No other request in the engine has the same number."""

    number: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Query:
    """Asks how likely each of ``token_ids`` is as the next token after ``prefix_ids``."""

    prefix_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


class Engine(Protocol):
    """Samples responses and scores single tokens.

    ``submit`` and ``advance`` are separate so that requests can join a batch while it is decoded. An engine's behaviour
    depends on the order of the calls alone, never on time.

    A response ends only with a token of ``sampling.stop_ids``; :mod:`carerl.controller.preparation` puts the tokens
    that the model's files name among them. Nothing else in these files changes what is sampled: generation_config.json
    may hold a temperature or a repetition penalty, but only ``sampling`` counts.
    """

    def submit(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Queues ``sampling.n`` completions of each request.

        A request draws from its own generator, seeded by (``sampling.seed``, its number). So a response depends on its
        prompt, the weights and its seed, and not on the rest of the batch. Log-probs are of the distribution that is
        sampled from, temperature included.
        """
        ...

    def advance(self, steps: int = 0) -> list[tuple[int, list[Completion]]]:
        """Decodes ``steps`` tokens of every sequence in the batch (0: until nothing is left). Queued requests join as
        soon as there is room. Returns the completions of the requests that have ended, with their numbers.

        An engine without continuous batching decodes a batch to its end, whatever ``steps`` says.
        """
        ...

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Returns for each query the log-probs (nats) of its ``token_ids``, in their order, as the next token after its
        prefix: over the whole vocabulary and at temperature 1. Costs a forward pass over the part of each prefix that
        is not cached.

        Raises RequestsInFlight if a request has not ended: the query might have to wait for all requests in the queue.
        """
        ...

    def cancel(self) -> None:
        """Forgets every request that has not ended."""
        ...

    def init_transfer(self, info: dict[str, Any]) -> None:
        """Prepares to receive weights from a sender (:mod:`carerl.backends.transfer`), in place of an earlier one."""
        ...

    def start_update(self) -> None:
        """Begins to replace all weights. One that was begun and not finished is forgotten.

        Raises RequestsInFlight if a request has not ended: with new weights its tokens would come from two policies.
        """
        ...

    def update(self, info: dict[str, Any]) -> None:
        """Takes a part of the weights (names as in a Hugging Face checkpoint)."""
        ...

    def finish_update(self) -> Received:
        """Puts the new weights in use and forgets cached prefixes; returns what came. Whoever calls it compares that
        with what was sent."""
        ...

    def sleep(self) -> None:
        """Gives up the memory of weights and cache, and what is in it: whoever shares the GPU has its turn.

        Raises RequestsInFlight if a request has not ended: it would be forgotten.
        """
        ...

    def wake_weights(self) -> None:
        """Takes memory for weights, in which nothing is yet: an update of all weights follows."""
        ...

    def wake_cache(self) -> None:
        """Takes the rest of the memory, once the weights are whole."""
        ...


class RequestsInFlight(RuntimeError):
    """Refuses a call that needs an engine in which every request has ended."""


def check_new_weights(requests: int) -> None:
    """Refuses new weights while ``requests`` requests have not ended. Raises RequestsInFlight."""
    if requests:
        raise RequestsInFlight(
            f"{requests} requests have not ended: with new weights they would come from two policies"
        )


def check_sleep(requests: int) -> None:
    """Refuses sleep while ``requests`` requests have not ended. Raises RequestsInFlight."""
    if requests:
        raise RequestsInFlight(f"{requests} requests have not ended: an engine that sleeps would forget them")


def check_queries(requests: int) -> None:
    """Refuses queries while ``requests`` requests have not ended. Raises RequestsInFlight."""
    if requests:
        raise RequestsInFlight(f"{requests} requests have not ended: a query would wait behind them")
