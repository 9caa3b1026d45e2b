"""Adds up what a learner reports, over micro-batches and ranks."""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from carerl.loss.parity import Gaps
from carerl.types import TokenBatch


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
        """Adds how far the engine's log-probs are from the learner's at the same weights. Rows of no group have
        none of an engine."""
        if part.rollout_logprobs_BT is None:
            return
        gap_N = (logprobs_N.detach().cpu().float() - part.rollout_logprobs_BT[part.mask_BT]).double()
        if part.added_B is not None:
            gap_N = gap_N[~part.added_B.repeat_interleave(part.response_lengths_B)]
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
