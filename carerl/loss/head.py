"""From last hidden states to log-probs, entropy, cross-entropy and exact divergences, a chunk at a time.

The logits of a chunk of tokens exist only while that chunk is worked on, in the forward pass and again in
the backward pass (one more product with each head): memory follows chunk × V and never tokens × V. So an
exact divergence from the reference is possible at 152k tokens of vocabulary: the reference sends its last
hidden states, not its logits. [ours]

The backward pass is written out instead of left to ``torch.utils.checkpoint``, because that keeps what it
recomputed for outputs that no gradient reaches, such as an entropy that is only reported: of all chunks, so
that memory followed tokens × V after all. With G = d loss / d log p of one chunk (C, V),

    log-prob       G[a] += g                      a the target token
    cross-entropy  G[id_k] −= g · w_k
    entropy        G −= g · p · log p             (the derivative's + 1 drops out of dz)
    exact          G += g · d exact / d log p     autograd through ``exact`` of this chunk alone
    logits         dz = G − p · ΣG                then dz @ head, and dz.T @ hidden summed in one (V, D) buffer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
    a bfloat16 logit of 20 is wrong by .06. Reference tensors and cross-entropy weights get no gradient, and
    gradients have none of their own. Padding in ``ce_ids_NK`` has weight 0.

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
    results = _ChunkedHead.apply(  # type: ignore[no-untyped-call]
        hidden_ND, head_VD, head_bias, target_ids_N, ref_hidden_ND, ref_head_VD, ref_head_bias, ce_ids_NK,
        ce_weights_NK, temperature, chunk_tokens, exact,
    )  # fmt: skip
    return TokenStatistics(*results)


class _ChunkedHead(torch.autograd.Function):
    """The loop over chunks, forward and backward; between the two it keeps its inputs and nothing else."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        ref_hidden_ND: Tensor | None,
        ref_head_VD: Tensor | None,
        ref_bias_V: Tensor | None,
        ce_ids_NK: Tensor | None,
        ce_weights_NK: Tensor | None,
        temperature: float,
        chunk_tokens: int,
        exact: Exact | None,
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(
            hidden_ND, head_VD, bias_V, targets_N, ref_hidden_ND, ref_head_VD, ref_bias_V, ce_ids_NK, ce_weights_NK
        )
        given = (hidden_ND, head_VD, ref_hidden_ND, ref_head_VD)
        wide = torch.float64 if any(x is not None and x.dtype == torch.float64 for x in given) else torch.float32
        ctx.settings = temperature, chunk_tokens, exact, wide
        ctx.set_materialize_grads(False)  # a result that is not in the loss has the gradient None
        found: list[tuple[Tensor | None, ...]] = []
        with torch.autocast(hidden_ND.device.type, enabled=False):
            policy = _Head(head_VD, bias_V, temperature, wide)
            reference = None if ref_head_VD is None else _Head(ref_head_VD, ref_bias_V, temperature, wide)
            for part in _chunks(max(hidden_ND.shape[0], 1), chunk_tokens):  # of no tokens one empty chunk
                logr_CV = None
                if reference is not None and ref_hidden_ND is not None:
                    logr_CV = reference.log_softmax(ref_hidden_ND[part])
                ids_CK, weights_CK = (None if x is None else x[part] for x in (ce_ids_NK, ce_weights_NK))
                logp_CV = policy.log_softmax(hidden_ND[part])
                found.append(_of_chunk(logp_CV, logr_CV, exact, targets_N[part], ids_CK, weights_CK))
                del logp_CV, logr_CV  # before the next chunk's are made
        results = tuple(_concatenate(column) for column in zip(*found, strict=True))
        ctx.mark_non_differentiable(*(x for x in results[2:4] if x is not None))
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (hidden_ND, head_VD, bias_V, targets_N, ref_hidden_ND, ref_head_VD, ref_bias_V, ce_ids_NK, ce_weights_NK) = (
            ctx.saved_tensors
        )
        temperature, chunk_tokens, exact, wide = ctx.settings
        g_picked_N, g_entropy_N, _, _, g_exact_N, g_ce_N = gradients
        inputs = (hidden_ND, head_VD, bias_V)
        d_hidden_ND, d_head_VD, d_bias_V = (
            torch.zeros_like(x, dtype=wide) if needed else None
            for x, needed in zip(inputs, ctx.needs_input_grad[:3], strict=True)
        )
        with torch.autocast(hidden_ND.device.type, enabled=False):
            policy = _Head(head_VD, bias_V, temperature, wide)
            reference = None if g_exact_N is None else _Head(ref_head_VD, ref_bias_V, temperature, wide)
            for part in _chunks(hidden_ND.shape[0], chunk_tokens):
                logp_CV = policy.log_softmax(hidden_ND[part])
                if reference is None or g_exact_N is None:
                    g_CV = torch.zeros_like(logp_CV)
                else:
                    g_CV = _through(exact, logp_CV, reference.log_softmax(ref_hidden_ND[part]), g_exact_N[part])
                if g_picked_N is not None:
                    g_CV.scatter_add_(-1, targets_N[part, None], g_picked_N[part, None])
                if g_ce_N is not None:
                    g_CV.scatter_add_(-1, ce_ids_NK[part], -g_ce_N[part, None] * ce_weights_NK[part].to(wide))
                p_CV = logp_CV.exp()
                if g_entropy_N is not None:
                    g_CV.sub_(logp_CV.mul_(p_CV).mul_(g_entropy_N[part, None]))
                dz_CV = g_CV.sub_(p_CV.mul_(g_CV.sum(-1, keepdim=True))).div_(temperature)
                if d_hidden_ND is not None:
                    torch.mm(dz_CV, policy.weight_VD, out=d_hidden_ND[part])
                if d_head_VD is not None:
                    d_head_VD.addmm_(dz_CV.T, hidden_ND[part].to(wide))
                if d_bias_V is not None:
                    d_bias_V += dz_CV.sum(0)
                del logp_CV, p_CV, g_CV, dz_CV  # before the next chunk's are made
        found = zip((d_hidden_ND, d_head_VD, d_bias_V), inputs, strict=True)
        return *(None if d is None else d.to(x.dtype) for d, x in found), *[None] * 9


class _Head:
    """A head in the wide type; widened once for all chunks of a pass, and not kept between the passes."""

    def __init__(self, weight_VD: Tensor, bias_V: Tensor | None, temperature: float, wide: torch.dtype):
        self.weight_VD = weight_VD.to(wide)
        self._bias_V = None if bias_V is None else bias_V.to(wide)
        self._temperature = temperature

    def log_softmax(self, hidden_CD: Tensor) -> Tensor:
        logits_CV = torch.nn.functional.linear(hidden_CD.to(self.weight_VD.dtype), self.weight_VD, self._bias_V)
        return torch.log_softmax(logits_CV.div_(self._temperature), dim=-1)


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, start + size)


def _of_chunk(
    logp_CV: Tensor,
    logr_CV: Tensor | None,
    exact: Exact | None,
    targets_C: Tensor,
    ce_ids_CK: Tensor | None,
    ce_weights_CK: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """The results of a chunk, each (C,), in the order of :class:`TokenStatistics`."""
    picked_C = logp_CV.gather(-1, targets_C[:, None])[:, 0]
    entropy_C = -logp_CV.exp().mul_(logp_CV).sum(-1)
    ref_C = rkl_C = exact_C = ce_C = None
    if logr_CV is not None:
        ref_C = logr_CV.gather(-1, targets_C[:, None])[:, 0]
        rkl_C = (logp_CV - logr_CV).mul_(logp_CV.exp()).sum(-1).clamp(min=0)
        exact_C = None if exact is None else exact(logp_CV, logr_CV)
    if ce_ids_CK is not None and ce_weights_CK is not None:
        ce_C = -(ce_weights_CK.to(logp_CV.dtype) * logp_CV.gather(-1, ce_ids_CK)).sum(-1)
    return picked_C, entropy_C, ref_C, rkl_C, exact_C, ce_C


def _concatenate(column: tuple[Tensor | None, ...]) -> Tensor | None:
    parts = [part for part in column if part is not None]
    return torch.cat(parts) if parts else None


def _through(exact: Exact, logp_CV: Tensor, logr_CV: Tensor, g_C: Tensor) -> Tensor:
    """(C, V): g · d exact / d log p, the only part that is left to autograd."""
    with torch.enable_grad():
        leaf_CV = logp_CV.detach().requires_grad_()
        divergence_C = exact(leaf_CV, logr_CV)
    del logr_CV  # unless ``exact`` kept it, it makes room for the gradient
    (g_CV,) = torch.autograd.grad(divergence_C, leaf_CV, g_C)
    return g_CV.contiguous()  # written to: it must not be an expanded row
