"""Lays a batch's streams out as the objective sums them: one number for each response token, without padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carerl.records.vectors import TokenVectors
from carerl.types import TokenBatch


@dataclass
class FlatStreams:
    """The streams of a micro-batch at its N response tokens; None where a stream is off.

    They are the streams of :class:`carerl.types.TokenBatch`. Some differ: ``lengths_B`` says how many of the N tokens
    belong to each row, for what concerns whole rows. ``strata_NM`` has the strata of each token's row.
    ``decision_bound_N`` has the bounds of decisions at their tokens, and NaN at every other token.
    """

    advantages_N: Tensor | None = None
    policy_weight_N: Tensor | None = None
    old_logprobs_N: Tensor | None = None
    rollout_logprobs_N: Tensor | None = None
    ref_logprobs_N: Tensor | None = None
    regularizer_weight_N: Tensor | None = None
    entropy_weight_N: Tensor | None = None
    ce_weight_N: Tensor | None = None
    decision_bound_N: Tensor | None = None
    anchor_weight_N: Tensor | None = None
    lengths_B: Tensor | None = None
    strata_NM: Tensor | None = None

    @property
    def decided_N(self) -> Tensor:
        """(N,) bool: True at decisions. Asked only where ``decision_bound_N`` is on."""
        assert self.decision_bound_N is not None
        return ~self.decision_bound_N.isnan()


def flatten(batch: TokenBatch, device: torch.device | None = None) -> FlatStreams:
    """Picks the response tokens of every stream, row by row, in the order of :class:`carerl.loss.head.TokenStatistics`.

    It picks by length, so that neither padding nor the width of a stream matters.
    """

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
        decision_bound_N=_decision_bounds(batch, device),
        anchor_weight_N=flat(batch.anchor_weight_BT),
        lengths_B=batch.response_lengths_B.to(device),
        strata_NM=None
        if strata_BM is None
        else strata_BM.repeat_interleave(batch.response_lengths_B, dim=0).to(device),
    )


def decision_tokens(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Returns the rows that have a decision, and the place of each among the batch's N response tokens. A row
    without a response has none, whatever its stream says."""
    assert batch.decision_positions_B is not None
    lengths_B, positions_B = batch.response_lengths_B, batch.decision_positions_B
    rows = torch.nonzero((positions_B >= 0) & (positions_B < lengths_B))[:, 0]
    starts_B = lengths_B.cumsum(0) - lengths_B
    return rows, starts_B[rows] + positions_B[rows]


def _decision_bounds(batch: TokenBatch, device: torch.device | None) -> Tensor | None:
    if batch.decision_positions_B is None or batch.decision_bounds_B is None:
        return None
    rows, places = decision_tokens(batch)
    bound_N = torch.full((batch.response_tokens,), math.nan)
    bound_N[places] = batch.decision_bounds_B[rows]
    return bound_N.to(device)


@dataclass(frozen=True)
class ReferenceShare:
    """Holds what the reference found for some rows of a batch, at their response tokens: one row after another.

    It has one of the two: log-probs of the sampled tokens, or the last hidden states.
    """

    rows: tuple[int, ...]
    logprobs_N: Tensor | None = None
    hidden_ND: Tensor | None = None


def with_shares(batch: TokenBatch, shares: Sequence[ReferenceShare]) -> TokenBatch:
    """Returns the batch with the reference's streams. Rows that are in no share have no hidden states, or log-probs of
    0: a rank gets the shares of its own rows only.

    Hidden states stay in their shares, until a micro-batch copies the rows that it works on.
    """
    if not shares:
        return batch
    hidden = [(share.rows, share.hidden_ND) for share in shares if share.hidden_ND is not None]
    if hidden:
        return batch.with_streams(ref_hidden=TokenVectors.of(hidden, batch.response_lengths_B))
    found = [(share.rows, share.logprobs_N) for share in shares if share.logprobs_N is not None]
    ref_logprobs_BT = torch.zeros(batch.rows, batch.width, dtype=found[0][1].dtype)
    for rows, logprobs_N in found:
        put_rows(ref_logprobs_BT, rows, batch.response_lengths_B[list(rows)], logprobs_N)
    return batch.with_streams(ref_logprobs_BT=ref_logprobs_BT)


def put_rows(target_BT: Tensor, rows: Sequence[int], lengths_B: Tensor, values_N: Tensor) -> None:
    """Writes flat values into the given rows of a stream; ``lengths_B`` are those of the rows. The rest of the rows is
    set to 0."""
    block_BT = torch.zeros(len(rows), target_BT.shape[1], dtype=target_BT.dtype)
    block_BT[torch.arange(target_BT.shape[1]) < lengths_B[:, None]] = values_N.detach().cpu().to(target_BT.dtype)
    target_BT[list(rows)] = block_BT
