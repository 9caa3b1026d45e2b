"""The update of every learner: which rows go through the model when, and what is summed.

It knows no way of sharding: :class:`~carerl.backends.learners.base.Shards` does, and FSDP2 and DeepSpeed are two of
them. It knows no algorithm either: it takes a batch of streams, the rows of each optimizer minibatch and a learning
rate. All ranks call each method together. Three rules keep every gradient independent of how the work is cut:

1. Normalisers are counted over the whole minibatch, before it is split over ranks and micro-batches.
2. Losses are sums over the parts.
3. A rank without rows still takes part, with a row without a response: the others would hang in a collective that one
   rank leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from carerl import progress
from carerl.backends.hashed import Write
from carerl.backends.learners.base import AddReference, Shards
from carerl.backends.learners.split import deal, shares
from carerl.backends.learners.totals import Totals
from carerl.backends.lora import Adapters, Merged, adapters_off
from carerl.backends.transfer.source import WeightSource
from carerl.config.schema import LearnerConfig
from carerl.loss.added import added_rows
from carerl.loss.anchored import anchor_rows
from carerl.loss.batching import Minibatch, Normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective, Strengths
from carerl.loss.streams import flatten, put_rows
from carerl.loss.tally import PARTS, ObjectiveOutput
from carerl.types import RunError, TokenBatch

STREAMS = ("logprobs", "entropy", "rkl", "peak", "certainty")


class NonFiniteGradient(RunError):
    """Ends a run in which several updates in a row had a NaN or infinite gradient."""


class LearnerLoop:
    """Trains one rank's part, see :class:`carerl.backends.learners.base.Learner`."""

    max_bad_updates = 3

    def __init__(self, shards: Shards, config: LearnerConfig, objective: Objective):
        self.shards = shards
        self._objective = objective
        self._micro_batch_rows = config.micro_batch_rows
        self._lora = config.lora
        self._bad_updates = 0

    @property
    def hf_config(self) -> Any:
        return self.shards.hf_config

    def update(
        self,
        batch: TokenBatch,
        minibatches: Sequence[Minibatch],
        lr: float,
        strengths: Strengths | None = None,
        add_reference: AddReference | None = None,
        part_norms: bool = False,
        anchors_alone: bool = False,
    ) -> dict[str, float]:
        """Takes an optimizer step for each minibatch, in order; returns metrics reduced over all ranks.

        Anchors are in micro-batches of their own, so that each has one kind of divergence. ``anchors_alone``: True if
        ``add_reference`` is for these only.

        ``old_logprobs`` of a row are the learner's own at the weights that the batch was sampled with. Rows of the
        first minibatch get them from their training pass, which runs at these weights. Only the other rows need a pass
        of their own before the first step. A row stays on its rank through all minibatches. ``part_norms``: see
        :meth:`_part_norms`.
        """
        totals, skipped = Totals(), 0
        with_policy_term = batch.advantages_BT is not None
        lengths_B = batch.prompt_lengths_B + batch.response_lengths_B
        owners = deal(lengths_B, (minibatch.rows for minibatch in minibatches), self.shards.world)
        first, anchors = set(minibatches[0].rows), anchor_rows(batch)
        later = {row for minibatch in minibatches[1:] for row in minibatch.rows} - added_rows(batch)
        old_BT = torch.zeros(batch.rows, batch.width, dtype=self.shards.stream_dtype)
        if with_policy_term:
            self._fill_old(batch, shares(later - first, owners, lengths_B, self.shards.world), old_BT, totals)
        for number, minibatch in enumerate(minibatches):
            on_policy = number == 0
            mine = shares(minibatch.rows, owners, lengths_B, self.shards.world)
            rewarded = self._micro_batches([[row for row in share if row not in anchors] for share in mine])
            anchored = self._micro_batches([[row for row in share if row in anchors] for share in mine])
            parts = rewarded + anchored
            adds = [None if anchors_alone else add_reference] * len(rewarded) + [add_reference] * len(anchored)
            loss = partial(self._loss, minibatch.normalisers, strengths)
            if on_policy and part_norms:
                totals.add(self._part_norms(batch, parts, adds, loss))
            for k, (rows, add) in enumerate(zip(parts, adds, strict=True)):
                part = batch.select(rows) if rows else _no_tokens(batch)
                if with_policy_term and not on_policy and rows:
                    part = part.with_streams(old_logprobs_BT=old_BT[rows][:, : part.width])
                stats, out = loss(part, add)
                # Gradients are averaged over ranks; each rank's loss is a share of the global sum.
                self.shards.backward(out.loss * self.shards.world, last=k == len(parts) - 1)
                if rows:
                    totals.add(out.sums)
                    totals.add_shares(out.shares, len(minibatches))
                    if on_policy and with_policy_term and k < len(rewarded):
                        put_rows(
                            old_BT, rows, part.response_lengths_B, stats.logprobs_N
                        )  # for a later epoch, which trains them again
                        totals.add_mismatch(part, stats.logprobs_N)
            norm = self._step(lr)
            finite = math.isfinite(norm)
            skipped += not finite
            if finite and self.shards.rank == 0:  # the same on every rank
                totals.add({"train/grad_norm": (norm, 1.0)})
        return {**totals.reduced(self.shards.device), "train/lr": lr, "train/skipped_updates": float(skipped)}

    @torch.no_grad()
    def log_probs(
        self, batch: TokenBatch, minibatches: Sequence[Minibatch] = (), add_reference: AddReference | None = None
    ) -> tuple[list[int], dict[str, Tensor]]:
        """Returns this rank's rows and their streams, see :meth:`carerl.backends.learners.base.Learner.log_probs`."""
        lengths_B = batch.prompt_lengths_B + batch.response_lengths_B
        owners = deal(lengths_B, (minibatch.rows for minibatch in minibatches), self.shards.world)
        mine = shares(range(batch.rows), owners, lengths_B, self.shards.world)
        streams = {name: torch.zeros(batch.rows, batch.width) for name in STREAMS}
        for rows in self._micro_batches(mine):
            part = batch.select(rows) if rows else _no_tokens(batch)
            if add_reference is not None:
                part = add_reference(part)
            stats = self._statistics(part, peaks=True)
            found = (stats.logprobs_N, stats.entropy_N, stats.rkl_N, stats.peak_N, stats.certainty_N)
            for name, values_N in zip(STREAMS, found, strict=True):
                if rows and values_N is not None:
                    put_rows(streams[name], rows, part.response_lengths_B, values_N)
        rows = mine[self.shards.rank]
        return rows, {name: stream[rows] for name, stream in streams.items()}

    def set_reference_head(self, head_VD: Tensor | None) -> None:
        """Sets the frozen head that turns the reference's hidden states into its distribution. None gives it up."""
        self.shards.policy.frozen_ref_head_VD = None if head_VD is None else head_VD.to(self.shards.device)

    def set_vocabulary(self, tokens: int) -> None:
        """Has self-certainty computed from now on, over the head's first ``tokens`` rows. 0: no longer."""
        self.shards.policy.vocabulary = tokens

    def scores_of_base(self, part: TokenBatch, with_hidden: bool) -> Tensor:
        """Returns what the model says of a micro-batch with its adapters off: the reference of a run with adapters."""
        policy = self.shards.policy
        with torch.no_grad(), adapters_off(policy):
            found = policy(part, None, False, with_hidden)["hidden_ND" if with_hidden else "logprobs_N"]
        progress.step()
        return cast(Tensor, found)

    def source(self, dtype: torch.dtype) -> WeightSource:
        """Returns all weights, whole, in ``dtype``; adapters are merged into them."""
        if not self._lora.rank:
            return self.shards.source(dtype)
        return Merged(self.shards.source(torch.promote_types(dtype, torch.float32)), self._lora, dtype)

    def trained(self, dtype: torch.dtype) -> WeightSource:
        """Returns what training changes, whole, in ``dtype``: all weights, or adapters alone."""
        return Adapters(self.shards.source(dtype, trained_only=True)) if self._lora.rank else self.source(dtype)

    def save(self, directory: Path) -> Write:
        """Copies model and optimizer; returns the function that writes them."""
        return self.shards.save(directory)

    def load(self, directory: Path) -> str:
        """Restores what :meth:`save` had written. Returns what a person should know of it, or ''."""
        return self.shards.load(directory)

    def rest(self) -> None:
        """Gives up device memory that only training needs."""
        self.shards.rest()

    def resume(self) -> None:
        """Takes back what :meth:`rest` gave up."""
        self.shards.resume()

    def close(self) -> None:
        """Ends the learner's use, so that its memory is free once nobody refers to it."""
        self.shards.close()

    def _loss(
        self,
        normalisers: Normalisers,
        strengths: Strengths | None,
        part: TokenBatch,
        add_reference: AddReference | None,
    ) -> tuple[TokenStatistics, ObjectiveOutput]:
        """Computes a micro-batch's loss."""
        if add_reference is not None:
            part = add_reference(part)
        stats = self._statistics(part)
        return stats, self._objective(stats, flatten(part, self.shards.device), normalisers, strengths)

    def _part_norms(
        self,
        batch: TokenBatch,
        parts: list[list[int]],
        adds: list[AddReference | None],
        loss: Callable[[TokenBatch, AddReference | None], tuple[TokenStatistics, ObjectiveOutput]],
    ) -> dict[str, tuple[float, float]]:
        """Measures the gradient norm of each part of a minibatch's loss, as sums for :class:`Totals`. Each costs a pass
        forward and backward over the minibatch, whose gradient is thrown away: so the update that follows is the same
        to the last bit. Norms that are not finite are left out."""
        found: dict[str, tuple[float, float]] = {}
        left: list[str] | None = None  # known once a loss was computed, and the same on all ranks
        while left is None or left:
            for k, (rows, add) in enumerate(zip(parts, adds, strict=True)):
                _, out = loss(batch.select(rows) if rows else _no_tokens(batch), add)
                left = list(out.parts) if left is None else left
                self.shards.backward(out.parts[left[0]] * self.shards.world, last=k == len(parts) - 1)
            assert left
            name, norm = left.pop(0), self.shards.forget()
            if math.isfinite(norm) and self.shards.rank == 0:  # the same on every rank
                found[PARTS[name][1]] = norm, 1.0
        return found

    def _statistics(self, part: TokenBatch, peaks: bool = False) -> TokenStatistics:
        with_ref = part.ref_hidden is not None
        exact, anchor = self._objective.exact, self._objective.anchor_exact
        found = TokenStatistics(**self.shards.policy(part, exact, with_ref, peaks=peaks, anchor=anchor))
        progress.step()
        return found

    @torch.no_grad()
    def _fill_old(self, batch: TokenBatch, mine: list[list[int]], old_BT: Tensor, totals: Totals) -> None:
        lean = batch.with_streams(ref_hidden=None, decision_ids_BK=None)
        for rows in self._micro_batches(mine):
            part = lean.select(rows) if rows else _no_tokens(lean)
            stats = self._statistics(part)
            if rows:
                put_rows(old_BT, rows, part.response_lengths_B, stats.logprobs_N)
                totals.add_mismatch(part, stats.logprobs_N)

    def _micro_batches(self, every: list[list[int]]) -> list[list[int]]:
        """Returns this rank's micro-batches: as many as the rank with the most has, the surplus empty."""
        size = self._micro_batch_rows
        count = max(math.ceil(len(share) / size) for share in every)
        mine = every[self.shards.rank]
        return [mine[k * size : (k + 1) * size] for k in range(count)]

    def _step(self, lr: float) -> float:
        """Takes an optimizer step; returns the gradient's norm. Raises NonFiniteGradient after ``max_bad_updates``
        updates in a row that were skipped because the norm was not finite. The norm is global, so all ranks skip
        together."""
        progress.step()
        norm = self.shards.step(lr)
        self._bad_updates = 0 if math.isfinite(norm) else self._bad_updates + 1
        if self._bad_updates >= self.max_bad_updates:
            raise NonFiniteGradient(
                f"{self._bad_updates} updates in a row had a gradient norm of {norm} and were skipped: they "
                "changed no weight. Lower learner.optimizer.lr, raise learner.schedule.warmup_steps, or set "
                "learner.compute_dtype=float32, and resume from an earlier checkpoint (resume=DIR)"
            )
        return norm


def _no_tokens(batch: TokenBatch) -> TokenBatch:
    """Returns one row without a response. It takes part in every collective, and adds nothing, as it has no token; and
    it needs nothing of the reference, whose hidden states may all be on other ranks."""
    bare = batch.with_streams(response_lengths_B=torch.zeros_like(batch.response_lengths_B), ref_hidden=None)
    none = None if batch.ref_hidden is None else batch.ref_hidden.select(torch.tensor([], dtype=torch.long))
    return bare.select([0]).with_streams(ref_hidden=none)
