"""What a rollout engine does.

An engine takes token ids and returns token ids: text never enters or leaves it, so nothing is tokenised
twice. It holds one set of weights, replaced in place by ``update_weights``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from carerl.types import Completion, Sampling


@dataclass(frozen=True)
class Request:
    """A prompt under a number of its own among those that an engine holds."""

    number: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Query:
    """What comes next after ``prefix_ids``: one of ``token_ids``, and how likely is each?"""

    prefix_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


class Engine(Protocol):
    """``submit`` and ``advance`` are apart so that requests can join a batch which is being decoded. What an engine
    does follows from the order of the calls alone, never from time.

    A response ends with a token of ``sampling.stop_ids`` and with no other: those that the model's files name are among
    them (:mod:`carerl.controller.preparation`). Nothing else in these files changes what is sampled, either:
    generation_config.json may hold a temperature or a repetition penalty, and only ``sampling`` counts."""

    def submit(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Queues ``sampling.n`` completions of each request.

        A request draws from its own generator, seeded by (``sampling.seed``, its number): a response depends on its
        prompt, the weights and its seed, not on what shares the batch. Log-probs are those of the distribution
        sampled from, temperature included.
        """
        ...

    def advance(self, steps: int = 0) -> list[tuple[int, list[Completion]]]:
        """Decodes ``steps`` tokens of every sequence in the batch (0: until nothing is left), letting in what is
        queued wherever there is room. Returns the requests whose completions have all ended, with their numbers.

        An engine without continuous batching ends what it began, whatever ``steps`` says.
        """
        ...

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Of each query: log-probs (nats) of its ``token_ids`` as the token after its prefix, in their order, out of
        the whole vocabulary and at temperature 1. A forward pass over each prefix, but for what of it is cached.

        Raises RequestsInFlight if a request has not ended: behind those that are queued it could wait for all.
        """
        ...

    def cancel(self) -> None:
        """Forgets every request that has not ended."""
        ...

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Replaces all weights (names as in a Hugging Face checkpoint) and forgets cached prefixes.

        Raises RequestsInFlight if a request has not ended: with new weights its tokens would come from two policies.
        """
        ...


class RequestsInFlight(RuntimeError):
    """Something was asked of an engine that waits for every request to end."""


def check_new_weights(requests: int) -> None:
    """Raises RequestsInFlight where there are any."""
    if requests:
        raise RequestsInFlight(
            f"{requests} requests have not ended: with new weights they would come from two policies"
        )


def check_queries(requests: int) -> None:
    """Raises RequestsInFlight where there are any."""
    if requests:
        raise RequestsInFlight(f"{requests} requests have not ended: what is asked now would wait behind them")
