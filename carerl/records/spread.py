"""The records of how spread the next-token distributions of a response are, which confidence is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

MOST_TOP = 128  # the likeliest tokens that an engine gives


@dataclass(frozen=True, slots=True)
class TokenSpread:
    """Says how spread the distribution was that one token was drawn from, temperature included. All in nats.

    ``entropy_low`` and ``entropy_high`` hold the entropy between them. They are equal where the whole vocabulary was
    seen, and bounds where an engine gives the likeliest tokens alone (:mod:`carerl.inference.confidence`).
    """

    entropy_low: float
    entropy_high: float

    top_mean: float
    """The mean log-prob of the ``top`` likeliest tokens, whichever token was drawn (DeepConf's confidence, negated)."""

    certainty: float
    """KL(uniform ‖ p), self-certainty; a lower bound where the likeliest tokens alone were seen."""

    peak: float
    """The log-prob of the likeliest token."""


def confidence_of(entropy: float, vocab: int) -> float:
    """Returns the confidence of a mean entropy (nats), in [0, 1]: rounding does not lead out of it. A vocabulary of one
    token leaves no doubt."""
    return min(1.0, max(0.0, 1 - entropy / math.log(vocab))) if vocab > 1 else 1.0


Mean = TypeVar("Mean", float, "Tensor")


def certainty_of(mean: Mean, vocab: int) -> Mean:
    """Returns the self-certainty KL(uniform ‖ p) = −log V − mean, nats (arXiv 2502.18581). ``mean``: of the log-probs
    of all V tokens of a vocabulary. 0 for a uniform p; there is no upper bound."""
    return -math.log(vocab) - mean


Watcher = Callable[[int, TokenSpread], bool]
"""Is called with each token as it is drawn, in order. Returns True to end the response after this token."""


class Floor(Protocol):
    """Says when a response is to be ended early. It travels to the engine with a request, so it must be picklable."""

    def watch(self) -> Watcher:
        """Returns a watcher for one response."""
        ...
