"""Attention over packed sequences, ``torch.nn.attention.varlen``, against one attention a sequence, and padded rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tests.gpu.hardware import DEVICE, TOY, lengths, seconds
from tests.gpu.report import Report

HEADS, KV_HEADS, SIZE = (4, 2, 16) if TOY else (28, 4, 128)
ROWS, MEAN, MOST = (6, 8, 20) if TOY else (24, 700, 3072)
DTYPE = torch.float32 if TOY else torch.bfloat16
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def causal(q_BHSE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor) -> Tensor:
    return scaled_dot_product_attention(q_BHSE, k_BKSE, v_BKSE, is_causal=True, enable_gqa=True)


def one_by_one(tokens: list[int]) -> Attention:
    """Returns attention over packed sequences (N, heads, size) as one causal attention a sequence."""

    def attend(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        rows = zip(*(x.split(tokens) for x in (q_NHE, k_NKE, v_NKE)), strict=True)
        return torch.cat([causal(*(x.transpose(0, 1)[None] for x in row))[0].transpose(0, 1) for row in rows])

    return attend


def varlen(tokens: list[int]) -> Attention:
    """Returns the same in one call of torch's kernel. Its signature has changed: torch 2.10 has ``is_causal``, later
    versions ``window_size``, and 2.12 is the first with ``enable_gqa``."""
    from torch.nn.attention.varlen import varlen_attn

    named = inspect.signature(varlen_attn).parameters
    settings: dict[str, Any] = {"is_causal": True} if "is_causal" in named else {"window_size": (-1, 0)}
    grouped = "enable_gqa" in named
    if grouped:
        settings["enable_gqa"] = True
    ends_B = torch.tensor([0, *tokens], device=DEVICE).cumsum(0).to(torch.int32)

    def attend(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        if not grouped:
            k_NKE, v_NKE = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (k_NKE, v_NKE))
        out_NHE = varlen_attn(q_NHE, k_NKE, v_NKE, ends_B, ends_B, max(tokens), max(tokens), **settings)
        assert isinstance(out_NHE, Tensor)  # and not a pair, which only ``return_aux`` asks for
        return out_NHE

    return attend


def masked(tokens: list[int]) -> Attention:
    """Returns the same with a mask over all tokens: stands for the kernel in a toy run, as the CPU has none."""
    row_N = torch.repeat_interleave(torch.arange(len(tokens)), torch.tensor(tokens))
    allowed_NN = (row_N[:, None] == row_N[None]).tril()

    def attend(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_NHE, k_NKE, v_NKE))
        return scaled_dot_product_attention(q, k, v, attn_mask=allowed_NN, enable_gqa=True)[0].transpose(0, 1)

    return attend


def run(report: Report) -> None:
    """Compares outputs and gradients, then the time against padded rows."""
    tokens = lengths(ROWS, MEAN, MOST)
    torch.manual_seed(0)
    total, longest = sum(tokens), max(tokens)
    inputs = [
        torch.randn(total, heads, SIZE, device=DEVICE, dtype=DTYPE, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]
    weights_NHE = torch.randn(total, HEADS, SIZE, device=DEVICE)

    def forward_and_backward(attend: Attention) -> list[Tensor]:
        out_NHE = attend(*inputs)
        gradients = torch.autograd.grad((out_NHE.float() * weights_NHE).sum(), inputs)
        return [x.detach().float() for x in (out_NHE, *gradients)]

    if not TOY:
        from torch.nn.attention.varlen import varlen_attn

        report.tell("signature of varlen_attn", str(inspect.signature(varlen_attn)))
    packed = (masked if TOY else varlen)(tokens)
    pairs = zip(forward_and_backward(one_by_one(tokens)), forward_and_backward(packed), strict=True)
    worst = max(float((ours - theirs).norm() / theirs.norm()) for theirs, ours in pairs)
    report.at_most("output and gradients against one attention a sequence, relative", worst, 1e-2)
    padded = [
        torch.randn(ROWS, heads, longest, SIZE, device=DEVICE, dtype=DTYPE, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]
    slow = seconds(lambda: torch.autograd.grad(causal(*padded).float().sum(), padded))
    fast = seconds(lambda: forward_and_backward(packed))
    padding = ROWS * longest / total
    report.at_least(
        f"times faster than padded rows, with {padding:.2f} times the tokens", slow / fast, 0.0 if TOY else 1.0
    )
