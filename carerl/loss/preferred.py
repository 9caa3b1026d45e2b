"""DPO as weighted likelihood: what an optimizer step does with pairs, as weights of rows that know of no pair.

DPO (Rafailov et al., arXiv 2305.18290, eq. 7) is the mean over pairs of −log sigmoid(h), with

    h = beta · [(lp − lr)_w − (lp − lr)_l]

``lp`` and ``lr`` are the log-probs of a whole step under policy and reference, w the chosen and l the rejected one. Its
gradient (their section 4) is −beta · sigmoid(−h) · (∇lp_w − ∇lp_l). So each pair is scored once under the current
weights, and then is two rows of cross-entropy with fixed weights: beta · sigmoid(−h) and −beta · sigmoid(−h).

1. [ours] Rows do not depend on each other, so micro-batches and ranks may cut pairs apart, and a learner needs no
   record of them. It is exact for one optimizer step: after it, pairs are to be scored again.
2. [ours] DPO lowers the likelihood of what is chosen too. The anchor is cross-entropy on the chosen steps, the mean
   over all of their tokens, times ``nll_weight``. It is part of the chosen rows' weights.
3. [ours] Weights bring their own denominators, pairs and chosen tokens. So the normaliser of the cross-entropy is 1,
   and what the learner reports as its cross-entropy is not DPO's loss: that is in :func:`with_preferences`.
4. The prompt of a pair ends with what both steps share. It has no weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from carerl.loss.batching import Minibatch, Normalisers, StepBatch, rows_with_weight
from carerl.loss.packing import pack_rows

CHOSEN, REJECTED = slice(0, None, 2), slice(1, None, 2)  # rows of a planned batch


class Contrast(Protocol):
    """Holds what is read of a pair, see :class:`carerl.preferences.records.Pair`."""

    @property
    def prompt_ids(self) -> tuple[int, ...]: ...
    @property
    def chosen_ids(self) -> tuple[int, ...]: ...
    @property
    def rejected_ids(self) -> tuple[int, ...]: ...


def plan_preferred(pairs: Sequence[Contrast], temperature: float = 1.0) -> StepBatch:
    """Plans one optimizer step over pairs: rows 2i and 2i + 1 are the chosen and the rejected step of pair i.

    ``temperature``: at which the steps were drawn; log-probs are of that distribution. All weights are 1 until
    :func:`with_preferences` sets them, so that a scoring pass places each row on the rank that trains it.
    Raises ValueError without pairs, and for a pair with an empty step or two equal ones.
    """
    if not pairs:
        raise ValueError("there are no pairs to learn from")
    for pair in pairs:
        if not pair.chosen_ids or not pair.rejected_ids or pair.chosen_ids == pair.rejected_ids:
            raise ValueError(f"the steps of a pair are empty or equal: {pair.chosen_ids} and {pair.rejected_ids}")
    batch = pack_rows(
        [pair.prompt_ids for pair in pairs for _ in range(2)],
        [ids for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)],
        temperature,
    )
    batch = batch.with_streams(ce_weight_BT=batch.mask_BT.float())
    return StepBatch(batch, [Minibatch(tuple(range(batch.rows)), Normalisers(1.0, 1.0, ce=1.0))], empty=0)


def with_preferences(
    step: StepBatch, policy_BT: Tensor, reference_BT: Tensor, beta: float, nll_weight: float
) -> tuple[StepBatch, dict[str, float]]:
    """Returns the step with its weights, and its metrics before the update.

    ``step``: of :func:`plan_preferred`. ``policy_BT``, ``reference_BT``: log-probs of the response tokens (B, T), nats,
    under the weights that are about to be updated and under the reference; what is beyond a response is not read. The
    weights have the wider of their dtypes. A step in which every weight is 0 (each h so large that sigmoid(−h) is 0,
    and no anchor) has no minibatch. Raises ValueError for log-probs of another shape or that are not finite.
    """
    batch, mask_BT = step.batch, step.batch.mask_BT
    if policy_BT.shape != mask_BT.shape or reference_BT.shape != mask_BT.shape:
        raise ValueError(f"log-probs are {tuple(policy_BT.shape)} and {tuple(reference_BT.shape)}: {mask_BT.shape}")
    lp_B, lr_B = (_sums(stream_BT, mask_BT) for stream_BT in (policy_BT, reference_BT))
    ratio_B = lp_B - lr_B
    h_P = beta * (ratio_B[CHOSEN] - ratio_B[REJECTED])
    pairs, chosen_tokens = len(h_P), int(batch.response_lengths_B[CHOSEN].sum())
    pull_P = beta * torch.sigmoid(-h_P) / pairs
    weight_B = torch.stack([pull_P + nll_weight / chosen_tokens, -pull_P], dim=1).flatten()
    dtype = torch.promote_types(policy_BT.dtype, reference_BT.dtype)
    batch = batch.with_streams(ce_weight_BT=(weight_B[:, None] * mask_BT).to(dtype))
    empty = not bool(rows_with_weight(batch).any())
    nll = -float(lp_B[CHOSEN].sum()) / chosen_tokens
    dpo = float(torch.nn.functional.softplus(-h_P).mean())
    lengths_B = batch.response_lengths_B.double()
    per_token_B = ratio_B / lengths_B
    metrics = {
        "preference/loss": dpo + nll_weight * nll,
        "preference/dpo_loss": dpo,
        "preference/nll": nll,
        "preference/margin": float(h_P.mean()),
        "preference/accuracy": float((h_P > 0).double().mean()),
        "preference/pull": float(torch.sigmoid(-h_P).mean()),
        "preference/chosen_logprob": float(lp_B[CHOSEN].mean()),
        "preference/rejected_logprob": float(lp_B[REJECTED].mean()),
        "preference/chosen_log_ratio": float(per_token_B[CHOSEN].mean()),
        "preference/rejected_log_ratio": float(per_token_B[REJECTED].mean()),
        "preference/pairs": float(pairs),
    }
    return StepBatch(batch, [] if empty else step.minibatches, empty=int(empty)), metrics


def _sums(stream_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Returns (B,) float64: the log-prob of each row's response. Raises ValueError where one is not finite."""
    sums_B = stream_BT.double().masked_fill(~mask_BT, 0.0).sum(dim=1)
    if not all(map(math.isfinite, sums_B.tolist())):
        raise ValueError("a log-prob of a pair is not finite")
    return sums_B
