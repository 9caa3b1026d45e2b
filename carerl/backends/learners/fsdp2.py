"""A learner on PyTorch's ``fully_shard`` (FSDP2), on gloo or NCCL.

It knows no algorithm: it takes a batch of streams, the rows of each optimizer minibatch and a learning rate. All ranks
call each method together. Three rules keep every gradient independent of how the work is cut:

1. Normalisers are counted over the whole minibatch, before it is split over ranks and micro-batches.
2. Losses are sums over the parts.
3. A rank without rows still takes part, with a row of weight zero: the others would hang in a collective that one rank
   leaves out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from carerl import progress
from carerl.backends.learners.policy import Policy
from carerl.backends.models import DTYPES
from carerl.config.schema import LearnerConfig
from carerl.loss.batching import Minibatch
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective, Strengths
from carerl.loss.parity import Gaps
from carerl.loss.streams import flatten
from carerl.types import RunError, TokenBatch

# Parameters from which on a layer is gathered by itself. Smaller layers are gathered with the rest: the hooks of a unit
# cost about 0.3 ms a pass, a tenth of a tiny model's step.
SMALLEST_UNIT = 2**20


class NonFiniteGradient(RunError):
    """Ends a run in which several updates in a row had a NaN or infinite gradient."""


def split_rows(rows: Sequence[int], batch: TokenBatch, ranks: int) -> list[list[int]]:
    """Deals rows to ranks, longest first. Each row goes to the rank with the fewest tokens so far.

    Consecutive rows of a share have similar lengths, so its micro-batches have little padding.
    """
    lengths = (batch.prompt_lengths_B + batch.response_lengths_B).tolist()
    shares: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for row in sorted(rows, key=lambda r: (-lengths[r], r)):
        rank = load.index(min(load))
        shares[rank].append(row)
        load[rank] += lengths[row]
    return shares


class FSDP2Learner:
    """Trains one rank's part. ``model`` is a Hugging Face causal language model, the same on every rank."""

    max_bad_updates = 3

    def __init__(self, model: Any, config: LearnerConfig, objective: Objective, device: torch.device):
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self._config = config
        self._objective = objective
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self.device = device
        self.hf_config = model.config
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        mesh = dist.device_mesh.init_device_mesh(device.type, (self._world,))
        compute = DTYPES[config.compute_dtype]
        own = next(model.parameters()).dtype
        mixed = MixedPrecisionPolicy(
            param_dtype=None if compute == own else compute,
            reduce_dtype=torch.float64 if own == torch.float64 else torch.float32,
            cast_forward_inputs=False,  # the reference's hidden states keep their own precision
        )
        self.policy = Policy(model.to(device), config.head_chunk_tokens)
        for layer in self.policy.decoder.layers:  # type: ignore[union-attr]
            if sum(parameter.numel() for parameter in layer.parameters()) >= SMALLEST_UNIT:
                fully_shard(layer, mesh=mesh, mp_policy=mixed)
        fully_shard(self.policy, mesh=mesh, mp_policy=mixed)
        self._stream_dtype = torch.promote_types(own, torch.float32)  # float64 only for a float64 model
        self._parameters = [p for p in self.policy.parameters() if p.requires_grad]
        optimizer = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=optimizer.lr,
            betas=(optimizer.betas[0], optimizer.betas[1]),
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            foreach=True,
        )
        self._bad_updates = 0

    def update(
        self, batch: TokenBatch, minibatches: Sequence[Minibatch], lr: float, strengths: Strengths | None = None
    ) -> dict[str, float]:
        """Takes an optimizer step for each minibatch, in order; returns metrics reduced over all ranks.

        ``old_logprobs`` of a row are the learner's own at the weights that the batch was sampled with. Rows of the
        first minibatch get them from their training pass, which runs at these weights. Only the other rows need a pass
        of their own before the first step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        totals, skipped = Totals(), 0
        with_policy_term = batch.advantages_BT is not None
        first = set(minibatches[0].rows)
        later = {r for m in minibatches[1:] for r in m.rows}
        old_BT = torch.zeros(batch.rows, batch.width, dtype=self._stream_dtype)
        first_pass_BT = torch.zeros_like(old_BT)
        if with_policy_term:
            self._fill_old(batch, sorted(later - first), old_BT, totals)
        for number, minibatch in enumerate(minibatches):
            on_policy = number == 0
            mine = split_rows(minibatch.rows, batch, self._world)
            for rows in self._micro_batches(mine):
                part = batch.select(rows) if rows else _weightless(batch)
                if with_policy_term and not on_policy and rows:
                    part = part.with_streams(old_logprobs_BT=old_BT[rows][:, : part.width])
                stats = self._statistics(part)
                out = self._objective(stats, flatten(part, self.device), minibatch.normalisers, strengths)
                # FSDP averages gradients over ranks; each rank's loss is a share of the global sum.
                (out.loss * self._world).backward()
                if rows:
                    totals.add(out.sums)
                    totals.add_shares(out.shares, len(minibatches))
                    if on_policy and with_policy_term:
                        _scatter(first_pass_BT, rows, part, stats.logprobs_N)
                        totals.add_mismatch(part, stats.logprobs_N)
            if on_policy and first & later:  # a later epoch trains these rows again, perhaps on another rank
                old_BT += self._over_ranks(first_pass_BT)
            norm = self._step()
            finite = math.isfinite(norm)
            skipped += not finite
            if finite and self._rank == 0:  # the same on every rank
                totals.add({"train/grad_norm": (norm, 1.0)})
        return {**totals.reduced(self.device), "train/lr": lr, "train/skipped_updates": float(skipped)}

    @torch.no_grad()
    def log_probs(self, batch: TokenBatch) -> tuple[list[int], dict[str, Tensor]]:
        """Returns this rank's rows and their streams, see :meth:`carerl.backends.learners.base.Learner.log_probs`."""
        mine = split_rows(range(batch.rows), batch, self._world)
        names = ("logprobs", "entropy", "rkl")
        streams = {name: torch.zeros(batch.rows, batch.width) for name in names}
        for rows in self._micro_batches(mine):
            part = batch.select(rows) if rows else _weightless(batch)
            stats = self._statistics(part)
            for name, values_N in zip(names, (stats.logprobs_N, stats.entropy_N, stats.rkl_N), strict=True):
                if rows and values_N is not None:
                    _scatter(streams[name], rows, part, values_N)
        rows = mine[self._rank]
        return rows, {name: stream[rows] for name, stream in streams.items()}

    def set_reference_head(self, head_VD: Tensor) -> None:
        """Sets the frozen head that turns the reference's hidden states into its distribution."""
        self.policy.frozen_ref_head_VD = head_VD.to(self.device)

    @torch.no_grad()
    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields whole tensors on the CPU under their Hugging Face names, one at a time. Collective."""
        from torch.distributed.fsdp import FSDPModule

        for module in self.policy.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # a forward pass without a backward one leaves the root's weights gathered
        for name, parameter in self.policy.named_parameters():
            yield name.removeprefix("model."), parameter.full_tensor().detach().cpu()  # type: ignore[attr-defined]

    def save(self, directory: Path) -> None:
        """Writes model and optimizer, sharded, in torch's distributed checkpoint format."""
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_state_dict

        from carerl.backends.learners.files import plain_errors

        model, optimizer = get_state_dict(self.policy, self.optimizer)
        with plain_errors():
            dcp.save({"model": model, "optimizer": optimizer}, checkpoint_id=str(directory))

    def load(self, directory: Path) -> None:
        """Restores what ``save`` wrote, also on another number of ranks. Reads it as data, see
        :mod:`carerl.backends.learners.files`."""
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

        from carerl.backends.learners.files import Planner, Reader, plain_errors

        model, optimizer = get_state_dict(self.policy, self.optimizer)
        state = {"model": model, "optimizer": optimizer}
        with plain_errors():
            dcp.load(state, storage_reader=Reader(str(directory)), planner=Planner())
        set_state_dict(self.policy, self.optimizer, model_state_dict=model, optim_state_dict=optimizer)

    def _statistics(self, part: TokenBatch) -> TokenStatistics:
        with_ref = part.ref_hidden is not None
        found = TokenStatistics(**self.policy(part, self._objective.exact, with_ref))
        progress.step()
        return found

    @torch.no_grad()
    def _fill_old(self, batch: TokenBatch, rows: list[int], old_BT: Tensor, totals: Totals) -> None:
        lean = batch.with_streams(ref_hidden=None, ce_target_ids_BTK=None, ce_target_weights_BTK=None)
        for part_rows in self._micro_batches(split_rows(rows, batch, self._world)):
            part = lean.select(part_rows) if part_rows else _weightless(lean)
            stats = self._statistics(part)
            if part_rows:
                _scatter(old_BT, part_rows, part, stats.logprobs_N)
                totals.add_mismatch(part, stats.logprobs_N)
        self._over_ranks(old_BT)  # a row may be scored by one rank and trained by another

    def _over_ranks(self, stream_BT: Tensor) -> Tensor:
        """Sums a stream over ranks, in place. Each row must be nonzero on one rank at most."""
        if self._world > 1:
            on_device_BT = stream_BT.to(self.device)
            dist.all_reduce(on_device_BT)
            stream_BT.copy_(on_device_BT)
        return stream_BT

    def _micro_batches(self, shares: list[list[int]]) -> Iterator[list[int]]:
        """Yields this rank's micro-batches: as many as the rank with the most has, the surplus empty."""
        size = self._config.micro_batch_rows
        count = max(math.ceil(len(share) / size) for share in shares)
        mine = shares[self._rank]
        for k in range(count):
            yield mine[k * size : (k + 1) * size]

    def _step(self) -> float:
        """Clips the gradient and takes an optimizer step; returns the norm before clipping.

        Skips the step if the norm is not finite. The norm is global, so all ranks skip together. Raises
        NonFiniteGradient after ``max_bad_updates`` such updates in a row.
        """
        limit = self._config.optimizer.grad_clip or math.inf
        progress.step()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, limit, error_if_nonfinite=False)
        value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if math.isfinite(value):
            self.optimizer.step()
            self._bad_updates = 0
        else:
            self._bad_updates += 1
            if self._bad_updates >= self.max_bad_updates:
                raise NonFiniteGradient(
                    f"{self._bad_updates} updates in a row had a gradient norm of {value} and were skipped: they "
                    "changed no weight. Lower learner.optimizer.lr, raise learner.schedule.warmup_steps, or set "
                    "learner.compute_dtype=float32, and resume from an earlier checkpoint (resume=DIR)"
                )
        self.optimizer.zero_grad(set_to_none=True)
        return value


class Totals:
    """Adds up sums and counts over micro-batches and ranks, so that a mean is a mean over tokens."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._shares: dict[str, float] = {}
        self._weights = [0.0, 0.0]  # sum of w, of w squared
        self._gaps = Gaps()

    def add(self, sums: dict[str, tuple[float, float]]) -> None:
        """Adds (sum, count) for each name."""
        for name, (total, count) in sums.items():
            entry = self._sums.setdefault(name, [0.0, 0.0])
            entry[0] += total
            entry[1] += count

    def add_shares(self, shares: dict[str, float], minibatches: int) -> None:
        """Adds parts of a minibatch's values. The metric is the mean over minibatches."""
        for name, share in shares.items():
            self._shares[name] = self._shares.get(name, 0.0) + share / minibatches

    def add_mismatch(self, part: TokenBatch, logprobs_N: Tensor) -> None:
        """Adds how far the engine's log-probs are from the learner's at the same weights."""
        if part.rollout_logprobs_BT is None:
            return
        gap_N = (logprobs_N.detach().cpu().float() - part.rollout_logprobs_BT[part.mask_BT]).double()
        weight_N = gap_N.exp()
        self._gaps.add(gap_N)
        self._weights[0] += float(weight_N.sum())
        self._weights[1] += float(weight_N.square().sum())

    def reduced(self, device: torch.device) -> dict[str, float]:
        """Returns means over all ranks. A rank that had no rows may lack names, so names are exchanged too."""
        own = (self._sums, self._shares, self._weights, self._gaps.plain())
        gathered: list[Any] = gather_json(own, device) if dist.get_world_size() > 1 else [own]
        sums: dict[str, list[float]] = {}
        metrics: dict[str, float] = {}
        gaps = Gaps()
        for rank_sums, rank_shares, _, rank_gaps in gathered:
            for name, (total, count) in rank_sums.items():
                entry = sums.setdefault(name, [0.0, 0.0])
                entry[0] += total
                entry[1] += count
            for name, share in rank_shares.items():
                metrics[name] = metrics.get(name, 0.0) + share
            gaps.merge(Gaps.of(rank_gaps))
        metrics |= {name: total / count for name, (total, count) in sums.items() if count}
        if gaps.tokens:
            found = gaps.statistics()
            metrics["rollout/mismatch_mean"] = found.mean
            metrics["rollout/mismatch_q999"] = found.q999
            metrics["rollout/mismatch_max"] = found.largest
            w, w2 = (sum(weights[k] for _, _, weights, _ in gathered) for k in range(2))
            metrics["rollout/effective_sample_size"] = w * w / (gaps.tokens * w2) if w2 else 0.0
        return metrics


def gather_json(value: Any, device: torch.device) -> list[Any]:
    """Returns every rank's value, in order of rank. Collective.

    Values travel as JSON. ``all_gather_object`` pickles them, so anyone who reaches a rank's port could run code in the
    others. Floats arrive exactly as they were sent, NaN and infinity too.
    """
    own_N = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device)
    lengths = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(own_N)], device=device))
    longest = int(max(int(length) for length in lengths))
    texts = [torch.zeros(longest, dtype=torch.uint8, device=device) for _ in lengths]
    dist.all_gather(texts, torch.nn.functional.pad(own_N, (0, longest - len(own_N))))
    return [
        json.loads(bytes(text_N[: int(length)].cpu().tolist())) for text_N, length in zip(texts, lengths, strict=True)
    ]


def _weightless(batch: TokenBatch) -> TokenBatch:
    """Returns one row that takes part in every collective and adds exactly nothing."""
    part = batch.select([0])
    zero = {
        name: torch.zeros_like(stream)
        for name in ("policy_weight_BT", "entropy_weight_BT", "regularizer_weight_BT", "ce_weight_BT")
        if (stream := getattr(part, name)) is not None
    }
    return part.with_streams(**zero)


def _scatter(target_BT: Tensor, rows: Sequence[int], part: TokenBatch, values_N: Tensor) -> None:
    """Writes a micro-batch's flat values into the rows of a whole-batch stream."""
    block_BT = torch.zeros(part.rows, target_BT.shape[1], dtype=target_BT.dtype)
    block_BT[:, : part.width][part.mask_BT] = values_N.detach().cpu().to(target_BT.dtype)
    target_BT[list(rows)] = block_BT
