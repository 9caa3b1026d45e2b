"""From last hidden states to log-probs, entropy, cross-entropy and exact divergences, a chunk at a time.

The logits of a chunk of tokens exist only while that chunk is worked on, in the forward pass and again in
the backward pass (one more product with the head): memory follows chunk × V and never tokens × V. So an
exact divergence from the reference is possible at 152k tokens of vocabulary: the reference sends its last
hidden states, not its logits. [ours]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Exact = Callable[[Tensor, Tensor], Tensor]


@dataclass
class TokenStatistics:
    """Per-token results, each (N,), float32 or float64; None where the inputs for it were not given.

    logprobs_N       log-prob of the target token, with gradient
    entropy_N        of the policy, nats, with gradient
    ref_logprobs_N   log-prob of the target token under the reference
    rkl_N            exact KL(policy ‖ reference), without gradient
    divergence_N     ``exact`` of policy and reference, with gradient
    cross_entropy_N  −sum_k w_k log policy(id_k), with gradient
    """

    logprobs_N: Tensor
    entropy_N: Tensor
    ref_logprobs_N: Tensor | None = None
    rkl_N: Tensor | None = None
    divergence_N: Tensor | None = None
    cross_entropy_N: Tensor | None = None


def token_statistics(
    hidden_ND: Tensor,
    head_VD: Tensor,
    target_ids_N: Tensor,
    *,
    temperature: float,
    chunk_tokens: int,
    head_bias: Tensor | None = None,
    ref_hidden_ND: Tensor | None = None,
    ref_head_VD: Tensor | None = None,
    ref_head_bias: Tensor | None = None,
    exact: Exact | None = None,
    ce_ids_NK: Tensor | None = None,
    ce_weights_NK: Tensor | None = None,
) -> TokenStatistics:
    """Statistics of N response tokens; N may be 0, and the (empty) results still lead to all parameters.

    Policy and reference are ``softmax((hidden @ head.T + bias) / temperature)``, both at this temperature.
    Everything is computed in float32 whatever the inputs' type (float64 if one is), out of autocast's reach:
    a bfloat16 logit of 20 is wrong by .06. With more than ``chunk_tokens`` tokens the chunks' logits are
    recomputed in the backward pass. Reference tensors get no gradient. Padding in ``ce_ids_NK`` has weight 0.

    Raises ValueError for a reference without head (or a head without hidden states), another vocabulary than
    the policy's, ``exact`` without a reference, cross-entropy ids without weights, a temperature or chunk
    that is not positive.
    """
    if not (temperature > 0 and chunk_tokens > 0):
        raise ValueError(f"temperature {temperature} and chunk_tokens {chunk_tokens} must be positive")
    if (ref_hidden_ND is None) != (ref_head_VD is None):
        raise ValueError("the reference's hidden states and its head go together: one of them is missing")
    if ref_head_VD is not None and ref_head_VD.shape[0] != head_VD.shape[0]:
        raise ValueError(f"vocabularies differ: {head_VD.shape[0]} and the reference's {ref_head_VD.shape[0]}")
    if exact is not None and ref_hidden_ND is None:
        raise ValueError("an exact divergence needs the reference's hidden states and head")
    if (ce_ids_NK is None) != (ce_weights_NK is None):
        raise ValueError("cross-entropy target ids and weights go together: one of them is missing")

    given = (hidden_ND, head_VD, ref_hidden_ND, ref_head_VD)
    wide = torch.float64 if any(x is not None and x.dtype == torch.float64 for x in given) else torch.float32
    device_type = hidden_ND.device.type

    def widen(x: Tensor | None) -> Tensor | None:  # once, not for every chunk
        return None if x is None else x.to(wide)

    head, bias = head_VD.to(wide), widen(head_bias)
    ref_head, ref_bias = widen(ref_head_VD), widen(ref_head_bias)

    def log_softmax(hidden_CD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
        logits_CV = torch.nn.functional.linear(hidden_CD.to(wide), weight_VD, bias_V)
        return torch.log_softmax(logits_CV if temperature == 1.0 else logits_CV / temperature, dim=-1)

    def of_chunk(
        hidden_CD: Tensor,
        targets_C: Tensor,
        ref_hidden_CD: Tensor | None,
        ce_ids_CK: Tensor | None,
        ce_weights_CK: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast(device_type, enabled=False):
            logp_CV = log_softmax(hidden_CD, head, bias)
            picked_C = logp_CV.gather(-1, targets_C[:, None])[:, 0]
            entropy_C = -(logp_CV.exp() * logp_CV).sum(-1)
            ref_C = rkl_C = divergence_C = ce_C = None
            if ref_hidden_CD is not None and ref_head is not None:
                with torch.no_grad():
                    logr_CV = log_softmax(ref_hidden_CD, ref_head, ref_bias)
                    ref_C = logr_CV.gather(-1, targets_C[:, None])[:, 0]
                    rkl_C = (logp_CV.exp() * (logp_CV - logr_CV)).sum(-1).clamp(min=0)
                if exact is not None:
                    divergence_C = exact(logp_CV, logr_CV)
            if ce_ids_CK is not None and ce_weights_CK is not None:
                ce_C = -(ce_weights_CK.to(wide) * logp_CV.gather(-1, ce_ids_CK)).sum(-1)
        return picked_C, entropy_C, ref_C, rkl_C, divergence_C, ce_C

    total = hidden_ND.shape[0]
    streams = (hidden_ND, target_ids_N, ref_hidden_ND, ce_ids_NK, ce_weights_NK)
    chunks: list[tuple[Tensor | None, ...]] = []
    for start in range(0, max(total, 1), chunk_tokens):
        part = [None if x is None else x[start : start + chunk_tokens] for x in streams]
        if total > chunk_tokens and torch.is_grad_enabled():
            chunks.append(checkpoint(of_chunk, *part, use_reentrant=False, preserve_rng_state=False))
        else:
            chunks.append(of_chunk(*part))  # type: ignore[arg-type]
    logprobs_N, entropy_N, *optional = (_concatenate(column) for column in zip(*chunks, strict=True))
    assert logprobs_N is not None and entropy_N is not None
    return TokenStatistics(logprobs_N, entropy_N, *optional)


def _concatenate(column: tuple[Tensor | None, ...]) -> Tensor | None:
    parts = [part for part in column if part is not None]
    return torch.cat(parts) if parts else None
