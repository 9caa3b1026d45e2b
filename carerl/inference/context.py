"""Holds what a method of inference knows of one question, and makes its asks and branches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from carerl.records.spread import Floor, TokenSpread
from carerl.seeds import derived_seed

from .base import Ask, Branch, Decoded, Trace
from .confidence import confidence_interval, step_confidences
from .config import DecodeConfig
from .steps import Splitter


@dataclass(frozen=True)
class Context:
    """Holds what a method needs to know of one question. Prompts are no concern of a method: its asks name the tokens
    of the response alone.

    ``seed``: the question's own, the same for every method, so that methods share what they draw alike.
    ``max_new_tokens``: the length limit of a response. ``vocab``: V of the model's distributions. ``threshold``: what
    the method learned on validation (:class:`carerl.inference.methods.MethodEntry`), where it learns one.
    ``stop_ids``: the tokens that end a response.
    """

    seed: int
    max_new_tokens: int
    vocab: int
    splitter: Splitter
    decode: DecodeConfig
    threshold: float = 0.0
    stop_ids: frozenset[int] = frozenset()

    @property
    def limit(self) -> int:
        """The tokens that a method may draw in all."""
        return self.decode.budget * self.max_new_tokens

    def ask(self, path: tuple[int, ...], prefix_ids: tuple[int, ...] = (), floor: Floor | None = None) -> Ask:
        """Asks for a continuation to the length limit, seeded by its path."""
        left = self.max_new_tokens - len(prefix_ids)
        return Ask(path, prefix_ids, path_seed(self.seed, path), left, self.decode.temperature, floor)

    def roots(self, start: int, stop: int, floor: Floor | None = None) -> list[Ask]:
        """Asks for the responses number ``start`` to ``stop`` (exclusive) from the root."""
        return [self.ask((number,), floor=floor) for number in range(start, stop)]

    def ended(self, trace: Trace) -> bool:
        """Returns True for a trace that its floor did not cut short. One that ended by itself with the very token at
        which the floor fell has not been cut short."""
        return not trace.floored or trace.token_ids[-1] in self.stop_ids

    def spreads(self, trace: Trace) -> Sequence[TokenSpread]:
        """Returns the trace's spreads. Raises ValueError if a token has none, or one that is not finite: a method that
        needs them would otherwise do nothing, silently."""
        if len(trace.spreads) != len(trace.token_ids):
            raise ValueError(f"{len(trace.spreads)} spreads for {len(trace.token_ids)} tokens: one a token is needed")
        for spread in trace.spreads:
            if not math.isfinite(spread.entropy_high + spread.entropy_low + spread.top_mean + spread.certainty):
                raise ValueError(f"a spread is not finite: {spread}")
        return trace.spreads

    def width(self, spreads: Sequence[TokenSpread]) -> dict[str, float]:
        """Returns the fact ``confidence_width``: the width of the interval that holds the confidence of a question's
        tokens. It is 0 where the engine shows whole distributions, and more where it shows the likeliest tokens alone.
        ``spreads``: of all tokens that were drawn, each once; without any there is no fact."""
        low, high = confidence_interval(spreads, self.vocab)
        return {"confidence_width": high - low} if spreads else {}

    def branch(self, ask: Ask, trace: Trace, weight: float = 1.0, pruned: bool = False) -> Branch:
        """Makes the branch of an ask from the root."""
        ends = self.splitter.split(trace.token_ids)
        return Branch(
            path=ask.path,
            token_ids=trace.token_ids,
            own=len(trace.token_ids),
            steps=ends,
            confidences=step_confidences(trace.spreads, ends, self.vocab) if trace.spreads else (),
            pruned=pruned,
            truncated=trace.truncated,
            weight=weight,
        )


def path_seed(seed: int, path: tuple[int, ...]) -> int:
    """Derives the seed of a place in a question's tree. It depends on nothing that happens elsewhere in the tree."""
    for number in path:
        seed = derived_seed(seed, number)
    return seed


def decoded(branches: Iterable[Branch], rounds: int, facts: Mapping[str, float] | None = None) -> Decoded:
    """Makes a method's result, before anything is graded."""
    drawn = tuple(branches)
    return Decoded(drawn, -1, 0.0, sum(branch.own for branch in drawn), rounds, facts or {})
