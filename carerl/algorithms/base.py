"""What an algorithm is: three functions and a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .aggregation import Aggregation
from .surrogate import Surrogate


@dataclass(frozen=True)
class Algorithm:
    """``advantages`` maps rewards (P prompts, G samples) to advantages of the same shape; ``surrogate`` is the
    policy term of a token; ``aggregation`` says how tokens and sequences are weighted.

    ``mismatch_cap`` bounds the weight exp(old − rollout) by which a token's policy term and sampled
    regularizer are corrected when engine and learner disagree about the same weights; 0: no such weight.
    """

    advantages: Callable[[Tensor], Tensor]
    surrogate: Surrogate
    aggregation: Aggregation
    mismatch_cap: float = 0.0


@dataclass(frozen=True)
class AlgorithmEntry:
    """A line of the table: the Config dataclass, how to build the algorithm, one line for ``--help``."""

    config: type
    build: Callable[[Any], Algorithm]
    line: str
