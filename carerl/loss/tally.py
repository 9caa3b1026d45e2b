"""Adds up the metrics of the objective, as sums that micro-batches and ranks can add in turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from carerl.loss.strata import STRATA
from carerl.loss.streams import FlatStreams


@dataclass
class ObjectiveOutput:
    """The loss of a micro-batch with its metrics. Both dicts add up over micro-batches and ranks."""

    loss: Tensor
    """Scalar with gradient."""

    sums: dict[str, tuple[float, float]]
    """(sum, count) for each name; the metric is sum / count."""

    shares: dict[str, float]
    """Parts of the whole minibatch's values. ``train/loss`` is the sum of ``train/policy_loss``, ``regularizer/loss``
    (beta included), ``train/entropy_loss`` (the bonus with its sign) and ``train/ce_loss``."""


@dataclass
class Tally:
    """Collects detached scalars and brings them to the host in one transfer.

    Means are over the tokens that take part in the loss, ``counted_N``: dropped groups are in none of the learner's
    metrics.
    """

    counted_N: Tensor
    strata_NM: Tensor | None = None
    means: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # sum and count
    shares: dict[str, Tensor] = field(default_factory=dict)
    split: dict[str, Tensor] = field(default_factory=dict)  # sums over each stratum, (M,)

    def mean(self, name: str, values_N: Tensor, among_N: Tensor | None = None) -> None:
        """Adds a mean. ``among_N``: the tokens to count instead of ``counted_N``."""
        among_N = self.counted_N if among_N is None else among_N
        self.means[name] = values_N.detach().double()[among_N].sum(), among_N.sum().double()

    def mean_and_split(self, name: str, values_N: Tensor) -> None:
        """Adds a mean, and one over each stratum as ``name_stratum``."""
        self.mean(name, values_N)
        if self.strata_NM is not None:
            self.split[name] = values_N.detach().double()[self.counted_N] @ self.strata_NM[self.counted_N].double()

    def share(self, name: str, value: Tensor) -> Tensor:
        """Adds a part of the minibatch's value; returns it unchanged, with its gradient."""
        self.shares[name] = value.detach().double()
        return value

    def output(self, loss: Tensor) -> ObjectiveOutput:
        """Returns the loss with everything that was added."""
        members = [] if self.strata_NM is None else [self.strata_NM[self.counted_N].double().sum(dim=0)]
        scalars = torch.stack([x for pair in self.means.values() for x in pair] + list(self.shares.values()))
        numbers = iter(torch.cat([scalars, *members, *self.split.values()]).tolist())
        sums = {name: (next(numbers), next(numbers)) for name in self.means}
        shares = {name: next(numbers) for name in self.shares}
        stratum_tokens = [next(numbers) for _ in STRATA] if members else []
        for name in self.split:
            values = {stratum: (next(numbers), n) for stratum, n in zip(STRATA, stratum_tokens, strict=True)}
            sums |= {f"{name}_{stratum}": value for stratum, value in values.items() if value[1]}
        return ObjectiveOutput(loss, sums, shares)


def takes_part(streams: FlatStreams, like_N: Tensor) -> Tensor:
    """Returns (N,) bool: True for tokens with a weight in some component; all True if there are no weights at all."""
    weights = (streams.policy_weight_N, streams.regularizer_weight_N, streams.entropy_weight_N, streams.ce_weight_N)
    there = [weight_N != 0 for weight_N in weights if weight_N is not None]
    return torch.stack(there).any(dim=0) if there else torch.ones_like(like_N, dtype=torch.bool)
