"""A request as vLLM serves it: its settings, its tokens as they come, and how spread their distributions were."""

from __future__ import annotations

from typing import Any

from carerl.backends.engines.base import Request, limit
from carerl.inference.confidence import spread_of_top
from carerl.records.spread import TokenSpread
from carerl.seeds import derived_seed
from carerl.types import Completion, Sampling


class Watch:
    """Follows a request until it has ended. ``words``: V, the size of the vocabulary."""

    def __init__(self, request: Request, words: int):
        self._request, self._words = request, words
        self._top = min(request.top, words)
        self._watcher = request.floor.watch() if request.floor is not None else None
        self._spreads: list[TokenSpread] = []

    @property
    def streamed(self) -> bool:
        """True if the request's tokens are needed as soon as they are drawn."""
        return self._watcher is not None

    def settings(self, sampling: Sampling) -> dict[str, Any]:
        """Returns vLLM's sampling settings of the request."""
        request = self._request
        return {
            "n": sampling.n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "max_tokens": limit(request, sampling),
            "seed": derived_seed(sampling.seed, request.number) if request.seed is None else request.seed,
            "stop_token_ids": sorted(sampling.stop_ids),
            "ignore_eos": True,  # vLLM has end tokens of its own; only stop_token_ids end a response
            "logprobs": self._top,
            "flat_logprobs": True,  # lists, not an object for each token
        }

    def ends(self, output: Any) -> bool:
        """Shows the request's floor the tokens that are new; returns True if it ends the response."""
        if self._watcher is None:
            return False
        (one,) = output.outputs
        for position in range(len(self._spreads), len(one.token_ids)):
            self._spreads.append(self._spread(one.logprobs, position))
            by_itself = one.finish_reason == "stop" and position == len(one.token_ids) - 1
            if not by_itself and self._watcher(one.token_ids[position], self._spreads[position]):
                return True
        return False

    def completion(self, output: Any, floored: bool) -> Completion:
        """Returns a response that has ended: of a floored one, the tokens that the floor has seen."""
        flat = output.logprobs
        ids = tuple(output.token_ids[: len(self._spreads)] if floored else output.token_ids)
        starts = flat.start_indices[: len(ids)]
        drawn = tuple(flat.token_ids[start] for start in starts)  # the sampled token comes first
        if drawn != ids:
            raise RuntimeError(f"vLLM sampled {ids[:8]}… but gave log-probs of {drawn[:8]}…")
        spreads = self._spreads
        if self._top and not self.streamed:
            spreads = [self._spread(flat, position) for position in range(len(ids))]
        return Completion(
            ids,
            tuple(float(flat.logprobs[start]) for start in starts),
            truncated=output.finish_reason == "length" and not floored,
            spreads=tuple(spreads),
            floored=floored,
        )

    def _spread(self, flat: Any, position: int) -> TokenSpread:
        """Returns the spread of the distribution at a position. vLLM gives ``top + 1`` log-probs there: that of the
        token that was drawn, then those of the likeliest by rank, among which the drawn one may be again. Only the
        latter count."""
        start = flat.start_indices[position] + 1
        return spread_of_top(flat.logprobs[start : start + self._top], self._words)
