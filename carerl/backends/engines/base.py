"""The protocol of a rollout engine.

An engine takes token ids and returns token ids. Text never enters or leaves it, so nothing is tokenised twice. It
holds one set of weights, which is replaced in place by four calls, as vLLM has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carerl.backends.transfer.digest import Received
from carerl.records.spread import MOST_TOP, Floor
from carerl.types import Completion, Sampling


@dataclass(frozen=True)
class Request:
    """A prompt with a number. No other request in the engine has the same number.

    ``seed``: of its generator; None derives it from the sampling's seed and the number. ``max_new_tokens``: fewer than
    the sampling's; None for those. ``top``: how many of the likeliest tokens the spread of each token is computed from;
    0 for no spread. ``floor``: what may end the response early; it needs ``top``.
    """

    number: int
    prompt_ids: tuple[int, ...]
    seed: int | None = None
    max_new_tokens: int | None = None
    top: int = 0
    floor: Floor | None = None


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

        A request draws from its own generator, seeded by its ``seed`` or (``sampling.seed``, its number). So a response
        depends on its prompt, the weights and its seed, and not on the rest of the batch. Log-probs and spreads are of
        the distribution that is sampled from, temperature included; at temperature 0 of that at temperature 1.

        A floor is asked about each token as it is drawn, unless the response ends by itself with it, and nothing is
        drawn after the token at which it says so. Raises ValueError, see :func:`check_requests`.
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

    def likeliest(self, prefixes: Sequence[tuple[int, ...]], k: int) -> list[list[tuple[int, float]]]:
        """Returns for each prefix the ``k`` likeliest next tokens, each with its log-prob (nats) over the whole
        vocabulary at temperature 1: the likeliest first, of equally likely ones the lower id. Fewer if the vocabulary
        is smaller. Costs what :meth:`next_logprobs` costs.

        Raises RequestsInFlight if a request has not ended.
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


def check_requests(requests: Sequence[Request], sampling: Sampling) -> None:
    """Refuses requests that no engine can serve as they are meant. Raises ValueError.

    A seed or a floor is for one response. Where top-p or top-k leave tokens out, some of the likeliest tokens have
    probability 0, and means of log-probs are infinite.
    """
    for request in requests:
        if sampling.n != 1 and (request.seed is not None or request.floor is not None):
            raise ValueError(f"request {request.number} has a seed or a floor of its own, for {sampling.n} responses")
        if request.top > MOST_TOP:
            raise ValueError(f"request {request.number} asks for {request.top} of at most {MOST_TOP} likeliest tokens")
        if request.floor is not None and not request.top:
            raise ValueError(f"request {request.number} has a floor, but asks for no spread")
        if request.top and (sampling.top_p < 1 or sampling.top_k > 0):
            raise ValueError(f"request {request.number} asks for spreads, which top_p and top_k would make infinite")
        if request.max_new_tokens is not None and not 1 <= request.max_new_tokens <= sampling.max_new_tokens:
            raise ValueError(f"request {request.number} asks for {request.max_new_tokens} new tokens")


def limit(request: Request, sampling: Sampling) -> int:
    """Returns how many tokens a response to the request has at most."""
    return sampling.max_new_tokens if request.max_new_tokens is None else request.max_new_tokens


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
