"""Turns last hidden states into log-probs, entropy, cross-entropy and exact divergences, a chunk at a time.

The logits of a chunk of tokens exist only while that chunk is worked on, in the forward pass and again in the backward
pass (one more product with each head). So memory follows chunk × V and never tokens × V, and an exact divergence from
the reference is possible at 152k tokens of vocabulary: the reference sends its last hidden states, not its logits.
[ours]

The backward pass is written out and not left to ``torch.utils.checkpoint``. That would keep what it recomputed for
outputs that no gradient reaches, such as an entropy that is only reported, and keep it for all chunks: memory would
follow tokens × V after all. With G = d loss / d log p of one chunk (C, V),

    log-prob       G[a] += g                      a the target token
    cross-entropy  G[id_k] −= g · w_k
    entropy        G −= g · p · log p             (the derivative's + 1 drops out of dz)
    exact          G += g · d exact / d log p     autograd through the divergences of this chunk alone
    logits         dz = G − p · ΣG                then dz @ head, and dz.T @ hidden summed in one (V, D) buffer

How the products with a head are formed is said in :mod:`carerl.loss.products`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from carerl.loss.products import products_with
from carerl.records.spread import certainty_of

Exact = Callable[[Tensor, Tensor], Tensor]
"""A divergence (N,) from log-probs of policy and reference, each (N, V)."""


@dataclass(frozen=True)
class TwoKinds:
    """Exact divergences of two kinds of token; None for a kind that has none."""

    usual: Exact | None
    other: Exact | None
    other_N: Tensor  # bool, on the CPU: it decides what is computed

    def __bool__(self) -> bool:
        return self.usual is not None or self.other is not None


@dataclass(frozen=True)
class FactoredLogits:
    """Logits (N, V) that are not multiplied out: ``hidden_ND @ head_VD.T``.

    ``vocabulary``: how many of the head's first rows are tokens; 0 where that is not known. Rows beyond them pad the
    head to a round number.
    """

    hidden_ND: Tensor
    head_VD: Tensor
    vocabulary: int = 0


@dataclass(frozen=True)
class SoftTargets:
    """K target tokens for each of N tokens, with their weights. Padding has weight 0."""

    ids_NK: Tensor  # int64
    weights_NK: Tensor


@dataclass
class TokenStatistics:
    """Results for each token, each (N,), float32 or float64; None where the inputs for it were not given."""

    logprobs_N: Tensor
    """Log-prob of the target token, with gradient."""

    entropy_N: Tensor
    """Entropy of the policy, nats, with gradient."""

    ref_logprobs_N: Tensor | None = None
    """Log-prob of the target token under the reference."""

    rkl_N: Tensor | None = None
    """Exact KL(policy ‖ reference), without gradient."""

    divergence_N: Tensor | None = None
    """``exact`` of policy and reference, with gradient; 0 for a kind of token that has none."""

    cross_entropy_N: Tensor | None = None
    """−sum_k w_k log policy(id_k) over the soft targets, with gradient."""

    peak_N: Tensor | None = None
    """Log-prob of the policy's likeliest token, without gradient; only if it was asked for."""

    certainty_N: Tensor | None = None
    """KL(uniform ‖ policy), nats, without gradient, over the policy's ``vocabulary``; only if that is known."""


def token_statistics(
    policy: FactoredLogits,
    target_ids_N: Tensor,
    *,
    temperature: float,
    chunk_tokens: int,
    reference: FactoredLogits | None = None,
    exact: Exact | TwoKinds | None = None,
    soft_targets: SoftTargets | None = None,
    peaks: bool = False,
) -> TokenStatistics:
    """Computes the statistics of N response tokens. N may be 0: the (empty) results still lead to all parameters.

    Policy and reference are the softmax of their logits divided by ``temperature``, the same for both. Everything is
    computed in float32 whatever the inputs' type (float64 if one is), also under autocast: a bfloat16 logit of 20 is
    wrong by .06. On CUDA, bfloat16 hidden states and heads are multiplied as they are, with float32 sums. The reference
    and the weights of soft targets get no gradient, and gradients have none of their own. ``peaks``: whether the
    log-prob of the likeliest token is wanted too.

    In self-certainty, rows that pad the head count neither in the uniform distribution nor in the policy's: they are in
    no text [ours]. Everything else is over all rows.

    Raises ValueError for a reference with another head's size than the policy's, ``exact`` without a reference, more
    tokens than the policy's head has rows, and a temperature or chunk that is not positive.
    """
    if not (temperature > 0 and chunk_tokens > 0):
        raise ValueError(f"temperature {temperature} and chunk_tokens {chunk_tokens} must be positive")
    if reference is not None and reference.head_VD.shape[0] != policy.head_VD.shape[0]:
        sizes = f"{policy.head_VD.shape[0]} and the reference's {reference.head_VD.shape[0]}"
        raise ValueError(f"vocabularies differ: {sizes}")
    if not 0 <= policy.vocabulary <= policy.head_VD.shape[0]:
        raise ValueError(f"a vocabulary of {policy.vocabulary} tokens: the head has {policy.head_VD.shape[0]} rows")
    if reference is None and exact:
        raise ValueError("an exact divergence needs the reference's hidden states and head")
    inputs = _Inputs(
        policy.hidden_ND,
        policy.head_VD,
        target_ids_N,
        None if reference is None else reference.hidden_ND,
        None if reference is None else reference.head_VD,
        None if soft_targets is None else soft_targets.ids_NK,
        None if soft_targets is None else soft_targets.weights_NK,
    )
    settings = _Settings(temperature, chunk_tokens, exact or None, peaks, policy.vocabulary)
    return TokenStatistics(*_ChunkedHead.apply(settings, *inputs))  # type: ignore[no-untyped-call]


class _Inputs(NamedTuple):
    """The tensors of both passes. Autograd takes them one by one: it does not see a tensor inside another object."""

    hidden_ND: Tensor
    head_VD: Tensor
    target_ids_N: Tensor
    ref_hidden_ND: Tensor | None
    ref_head_VD: Tensor | None
    ce_ids_NK: Tensor | None
    ce_weights_NK: Tensor | None


@dataclass(frozen=True)
class _Settings:
    temperature: float
    chunk_tokens: int
    exact: Exact | TwoKinds | None
    peaks: bool
    vocabulary: int

    def divergence(self, part: slice) -> Exact | None:
        """Returns the exact divergence of a chunk; None if no token of any chunk has one."""
        if not isinstance(self.exact, TwoKinds):
            return self.exact
        usual, other, there_C = self.exact.usual, self.exact.other, self.exact.other_N[part]
        if there_C.all():
            return other or _zero
        return partial(_by_kind, usual, other, there_C) if there_C.any() else usual or _zero


class _ChunkedHead(torch.autograd.Function):
    """Loops over chunks, forward and backward. Between the two it keeps its inputs and nothing else."""

    @staticmethod
    def forward(ctx: Any, settings: _Settings, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        """Computes the results; ``tensors`` are :class:`_Inputs`."""
        ctx.save_for_backward(*tensors)
        x = _Inputs(*tensors)  # type: ignore[arg-type]
        given = (x.hidden_ND, x.head_VD, x.ref_hidden_ND, x.ref_head_VD)
        wide = torch.float64 if any(t is not None and t.dtype == torch.float64 for t in given) else torch.float32
        ctx.settings, ctx.wide = settings, wide
        ctx.set_materialize_grads(False)  # a result that is not in the loss has the gradient None
        found: list[tuple[Tensor | None, ...]] = []
        with torch.autocast(x.hidden_ND.device.type, enabled=False):
            policy, reference = _heads(x, settings.temperature, wide)
            for part in _chunks(max(x.hidden_ND.shape[0], 1), settings.chunk_tokens):  # of no tokens one empty chunk
                logr_CV = None
                if reference is not None and x.ref_hidden_ND is not None:
                    logr_CV = reference.log_softmax(x.ref_hidden_ND[part])
                ids_CK, weights_CK = (None if t is None else t[part] for t in (x.ce_ids_NK, x.ce_weights_NK))
                logp_CV = policy.log_softmax(x.hidden_ND[part])
                peak_C = logp_CV.amax(-1) if settings.peaks else None
                certainty_C = _certainty(logp_CV[:, : settings.vocabulary]) if settings.vocabulary else None
                exact = settings.divergence(part)
                of_targets = _of_chunk(logp_CV, logr_CV, exact, x.target_ids_N[part], ids_CK, weights_CK)
                found.append((*of_targets, peak_C, certainty_C))
                del logp_CV, logr_CV  # before the next chunk's are made
        results = tuple(_concatenate(column) for column in zip(*found, strict=True))
        ctx.mark_non_differentiable(*(t for t in (*results[2:4], *results[6:]) if t is not None))
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Returns the gradients of hidden states and head, each as wide as its input."""
        x: Any = _Inputs(*ctx.saved_tensors)
        settings, wide = ctx.settings, ctx.wide
        g_picked_N, g_entropy_N, _, _, g_exact_N, g_ce_N, *_ = gradients
        inputs = (x.hidden_ND, x.head_VD)
        d_hidden_ND, d_head_VD = (
            torch.zeros_like(t, dtype=wide) if needed else None
            for t, needed in zip(inputs, ctx.needs_input_grad[1:3], strict=True)
        )
        with torch.autocast(x.hidden_ND.device.type, enabled=False):
            policy, reference = _heads(x, settings.temperature, wide, with_reference=g_exact_N is not None)
            for part in _chunks(x.hidden_ND.shape[0], settings.chunk_tokens):
                logp_CV = policy.log_softmax(x.hidden_ND[part])
                exact = settings.divergence(part)
                if reference is None or g_exact_N is None or exact is None or exact is _zero:
                    g_CV = torch.zeros_like(logp_CV)
                else:
                    # without a name of its own, so that ``_through`` can give up the reference's chunk
                    g_CV = _through(exact, logp_CV, reference.log_softmax(x.ref_hidden_ND[part]), g_exact_N[part])
                if g_picked_N is not None:
                    g_CV.scatter_add_(-1, x.target_ids_N[part, None], g_picked_N[part, None])
                if g_ce_N is not None:
                    g_CV.scatter_add_(-1, x.ce_ids_NK[part], -g_ce_N[part, None] * x.ce_weights_NK[part].to(wide))
                p_CV = logp_CV.exp()
                if g_entropy_N is not None:
                    g_CV.sub_(logp_CV.mul_(p_CV).mul_(g_entropy_N[part, None]))
                dz_CV = g_CV.sub_(p_CV.mul_(g_CV.sum(-1, keepdim=True))).div_(settings.temperature)
                del logp_CV, p_CV, g_CV  # before dz is split
                factor = policy.products.factor(dz_CV)
                del dz_CV
                if d_hidden_ND is not None:
                    policy.products.hidden_gradient(factor, d_hidden_ND[part])
                if d_head_VD is not None:
                    policy.products.add_head_gradient(factor, x.hidden_ND[part], d_head_VD)
                del factor  # before the next chunk's tables are made
        found = zip((d_hidden_ND, d_head_VD), inputs, strict=True)
        return None, *(None if d is None else d.to(t.dtype) for d, t in found), *[None] * (len(_Inputs._fields) - 2)


class _Head:
    """A head with its temperature. What it takes is made once for all chunks of a pass and not kept between the
    passes."""

    def __init__(self, weight_VD: Tensor, hidden_ND: Tensor, temperature: float, wide: torch.dtype):
        self.products = products_with(weight_VD, hidden_ND.dtype, wide)
        self._temperature = temperature

    def log_softmax(self, hidden_CD: Tensor) -> Tensor:
        return torch.log_softmax(self.products.logits(hidden_CD).div_(self._temperature), dim=-1)


def _heads(
    x: _Inputs, temperature: float, wide: torch.dtype, with_reference: bool = True
) -> tuple[_Head, _Head | None]:
    """Returns the heads of policy and reference, the latter if it is there and wanted."""
    policy = _Head(x.head_VD, x.hidden_ND, temperature, wide)
    if not with_reference or x.ref_head_VD is None or x.ref_hidden_ND is None:
        return policy, None
    return policy, _Head(x.ref_head_VD, x.ref_hidden_ND, temperature, wide)


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
    """Returns the results of a chunk, each (C,), in the order of :class:`TokenStatistics`, up to the cross-entropy."""
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


def _certainty(scores_CV: Tensor) -> Tensor:
    """Computes KL(uniform ‖ softmax(scores)) = logsumexp − mean − log V of each row. The scores may be log-probs of a
    larger vocabulary: a shift of a row changes nothing."""
    mean_C = scores_CV.mean(-1) - scores_CV.logsumexp(-1)
    return certainty_of(mean_C, scores_CV.shape[1]).clamp_(min=0)  # below 0 by rounding alone


def _zero(logp_CV: Tensor, logr_CV: Tensor) -> Tensor:
    """Computes the divergence of tokens that have none."""
    return logp_CV.new_zeros(len(logp_CV))


def _by_kind(usual: Exact | None, other: Exact | None, other_C: Tensor, logp_CV: Tensor, logr_CV: Tensor) -> Tensor:
    """Computes the divergence of each token of a chunk that has both kinds; 0 for a kind that has none."""
    found_C = logp_CV.new_zeros(len(other_C))
    for exact, there_C in ((usual, ~other_C), (other, other_C)):
        if exact is not None:
            places = torch.nonzero(there_C)[:, 0].to(logp_CV.device)
            found_C = found_C.index_put((places,), exact(logp_CV[places], logr_CV[places]))
    return found_C


def _concatenate(column: tuple[Tensor | None, ...]) -> Tensor | None:
    parts = [part for part in column if part is not None]
    return torch.cat(parts) if parts else None


def _through(exact: Exact, logp_CV: Tensor, logr_CV: Tensor, g_C: Tensor) -> Tensor:
    """Returns g · d exact / d log p, (C, V). This is the only part that is left to autograd."""
    with torch.enable_grad():
        leaf_CV = logp_CV.detach().requires_grad_()
        divergence_C = exact(leaf_CV, logr_CV)
    del logr_CV  # unless ``exact`` kept it, this makes room for the gradient
    (g_CV,) = torch.autograd.grad(divergence_C, leaf_CV, g_C)
    return g_CV.contiguous()  # written to: it must not be an expanded row
