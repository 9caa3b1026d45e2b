"""Lays a batch out as the learner sums it: one number a response token, without padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carerl.types import TokenBatch


@dataclass
class FlatStreams:
    """The streams of a micro-batch at its response tokens, each (N,) or None where it is off. ``lengths_B``: how many
    of the N tokens are each row's, for what belongs to whole rows. ``strata_NM``: the strata of a token's row."""

    advantages_N: Tensor | None = None
    policy_weight_N: Tensor | None = None
    old_logprobs_N: Tensor | None = None
    rollout_logprobs_N: Tensor | None = None
    ref_logprobs_N: Tensor | None = None
    regularizer_weight_N: Tensor | None = None
    entropy_weight_N: Tensor | None = None
    ce_weight_N: Tensor | None = None
    lengths_B: Tensor | None = None
    strata_NM: Tensor | None = None


def flatten(batch: TokenBatch, device: torch.device | None = None) -> FlatStreams:
    """Row-major over the response tokens, as :class:`TokenStatistics` is; selected by length, so that neither
    padding nor the width of a stream matters."""

    def flat(stream_BT: Tensor | None) -> Tensor | None:
        if stream_BT is None:
            return None
        positions_T = torch.arange(stream_BT.shape[1])
        return stream_BT[positions_T[None, :] < batch.response_lengths_B[:, None]].to(device)

    strata_BM = batch.strata_BM
    return FlatStreams(
        advantages_N=flat(batch.advantages_BT),
        policy_weight_N=flat(batch.policy_weight_BT),
        old_logprobs_N=flat(batch.old_logprobs_BT),
        rollout_logprobs_N=flat(batch.rollout_logprobs_BT),
        ref_logprobs_N=flat(batch.ref_logprobs_BT),
        regularizer_weight_N=flat(batch.regularizer_weight_BT),
        entropy_weight_N=flat(batch.entropy_weight_BT),
        ce_weight_N=flat(batch.ce_weight_BT),
        lengths_B=batch.response_lengths_B.to(device),
        strata_NM=None
        if strata_BM is None
        else strata_BM.repeat_interleave(batch.response_lengths_B, dim=0).to(device),
    )
