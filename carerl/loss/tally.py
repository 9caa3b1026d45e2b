"""Adds up the metrics of the objective, as sums that micro-batches and ranks can add in turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from carerl.loss.strata import STRATA
from carerl.loss.streams import FlatStreams

PARTS = {
    "policy": ("train/policy_loss", "train/grad_norm_policy"),
    "regularizer": ("regularizer/loss", "train/grad_norm_regularizer"),
    "entropy": ("train/entropy_loss", "train/grad_norm_entropy"),
    "ce": ("train/ce_loss", "train/grad_norm_ce"),
    "anchor": ("anchor/loss", "train/grad_norm_anchor"),
}  # part of the loss -> the metrics of its value and of its gradient's norm


@dataclass
class ObjectiveOutput:
    """The loss of a micro-batch with its metrics. ``sums`` and ``shares`` add up over micro-batches and ranks."""

    loss: Tensor
    """Scalar with gradient."""

    sums: dict[str, tuple[float, float]]
    """(sum, count) for each name; the metric is sum / count."""

    shares: dict[str, float]
    """Parts of the whole minibatch's values: ``train/loss``, and those of ``parts`` by the names in :data:`PARTS`."""

    parts: dict[str, Tensor]
    """Scalars with gradient whose sum is the loss: ``policy``, ``regularizer`` (beta included), ``entropy`` (the bonus
    with its sign), ``ce`` and ``anchor`` (its weight included), as far as they are on. They are the same ones in every
    micro-batch of a minibatch."""


@dataclass
class Tally:
    """Collects detached scalars and brings them to the host in one transfer.

    Means are over ``counted_N``, see :func:`takes_part`. So dropped groups are in no mean, also where the decisions of
    such a group keep their cross-entropy.
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

    def output(self, loss: Tensor, parts: dict[str, Tensor]) -> ObjectiveOutput:
        """Returns the loss with its parts and everything that was added."""
        self.shares |= {PARTS[name][0]: part.detach().double() for name, part in parts.items()}
        self.shares["train/loss"] = loss.detach().double()
        members = [] if self.strata_NM is None else [self.strata_NM[self.counted_N].double().sum(dim=0)]
        scalars = torch.stack([x for pair in self.means.values() for x in pair] + list(self.shares.values()))
        numbers = iter(torch.cat([scalars, *members, *self.split.values()]).tolist())
        sums = {name: (next(numbers), next(numbers)) for name in self.means}
        shares = {name: next(numbers) for name in self.shares}
        stratum_tokens = [next(numbers) for _ in STRATA] if members else []
        for name in self.split:
            values = {stratum: (next(numbers), n) for stratum, n in zip(STRATA, stratum_tokens, strict=True)}
            sums |= {f"{name}_{stratum}": value for stratum, value in values.items() if value[1]}
        return ObjectiveOutput(loss, sums, shares, parts)


def takes_part(streams: FlatStreams, like_N: Tensor) -> Tensor:
    """Returns (N,) bool: True for tokens with a weight in policy term, regularizer or entropy bonus. Without a stream
    of these, as in supervised batches: with one in the cross-entropy. All True if there are no weights at all.

    Streams decide, and not what is in them: a micro-batch in which all groups are dropped counts none of its tokens.
    """
    weights = (streams.policy_weight_N, streams.regularizer_weight_N, streams.entropy_weight_N)
    there = [weight_N != 0 for weight_N in weights if weight_N is not None]
    if not there and streams.ce_weight_N is not None:
        there = [streams.ce_weight_N != 0]
    return torch.stack(there).any(dim=0) if there else torch.ones_like(like_N, dtype=torch.bool)
