"""Speeds up three operations of small float32 models on the CPU.

A tiny model's step is hundreds of operations of about ten microseconds each. transformers writes a norm as seven of
them and a rotary embedding as five, each with a node of its own in the backward pass. Here each is one node of few
operations. Linear layers use oneDNN where it is faster: MKL stays with AVX2 on AMD's processors, at half their rate.

The values are the same up to rounding (tests hold gradients to 1e-5). A model on a GPU, or of another dtype, is not
changed.
"""

from __future__ import annotations

import copy
import ctypes
import math
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def speed_up(model: nn.Module, device: torch.device) -> None:
    """Replaces, in place, how a Hugging Face decoder computes norms, rotary embeddings and linear layers.

    Names, parameters and state stay. ``device``: the one that computes; the weights need not be there yet. A model that
    is not float32 on the CPU is not changed, nor is a module that computes something else under the same name.
    """
    if device.type != "cpu" or next(model.parameters()).dtype != torch.float32:
        return
    keep_freed_memory()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            if _same_norm(module):
                module.forward = partial(_norm, module)
        elif type(module) is nn.Linear and onednn_is_faster():
            module.forward = partial(_linear, module)  # type: ignore[method-assign]
        elif type(module).__name__.endswith("Attention"):
            _replace_rotary(sys.modules[type(module).__module__])


@cache
def keep_freed_memory(mib: int = 256) -> None:
    """Tells the C library to keep up to ``mib`` MiB of freed memory in this process.

    Otherwise it returns every block of 128 KiB or more to the kernel, and each operation's result is mapped and cleared
    anew.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if set_option is not None:
        set_option(-3, 32 * 2**20)  # M_MMAP_THRESHOLD
        set_option(-1, mib * 2**20)  # M_TRIM_THRESHOLD


@cache
def onednn_is_faster() -> bool:
    """Returns True on a processor of AMD's with AVX-512."""
    try:
        vendor = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return vendor and torch.backends.cpu.get_cpu_capability() == "AVX512"


class _Norm(torch.autograd.Function):
    """y = x · r · w, r = (mean(x²) + eps)^(−1/2) over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = scale.square_().mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        size = unit.shape[-1]
        along = grad * unit
        mean = torch.matmul(along, weight[:, None]).mul_(1.0 / size)
        return (grad * weight).addcmul_(unit, mean, value=-1.0).mul_(scale), along.reshape(-1, size).sum(0), None


def _norm(module: Any, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or module.weight.dtype != torch.float32:  # mixed precision
        return type(module).forward(module, x)
    out: Tensor = _Norm.apply(x, module.weight, module.variance_epsilon)
    return out


@torch.no_grad()
def _same_norm(module: Any) -> bool:
    """Returns True if the module computes this norm. Others of the same name add 1 to their weight, or subtract a
    mean."""
    x, weighted = _sample(3, module.weight.shape[-1]), copy.copy(module)
    weighted._parameters = {"weight": nn.Parameter(_sample(2, module.weight.shape[-1])[1])}  # its own may be to come
    return torch.allclose(type(module).forward(weighted, x), _norm(weighted, x), rtol=1e-4, atol=1e-5)


def _sample(*shape: int) -> Tensor:
    """Makes numbers of both signs and any size up to 2, without drawing from a generator that a run depends on."""
    return torch.linspace(0.3, 50.0, math.prod(shape)).sin().mul(2.0).reshape(shape)


class _Rotary(torch.autograd.Function):
    """Turns each pair (x_i, x_{i + d/2}) by its angle, and in the backward pass by the negative angle. cos and sin hold
    each angle twice, (…, d)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, -1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: float) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-way)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=way)
    return out


def _replace_rotary(source: Any) -> None:
    """Puts :class:`_Rotary` into a model's module. Calls that it cannot serve go to the module's own function."""
    own: Callable[..., tuple[Tensor, Tensor]] | None = getattr(source, "apply_rotary_pos_emb", None)
    if own is None or hasattr(own, "behind") or not _same_rotary(own):
        return

    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        if q.device.type != "cpu" or q.dtype != torch.float32 or cos.requires_grad or cos.shape[-1] != q.shape[-1]:
            return own(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return _Rotary.apply(q, cos, sin), _Rotary.apply(k, cos, sin)

    rotate.behind = own  # type: ignore[attr-defined]
    source.apply_rotary_pos_emb = rotate


@torch.no_grad()
def _same_rotary(own: Callable[..., tuple[Tensor, Tensor]]) -> bool:
    """Returns True if a model turns the pairs (x_i, x_{i + d/2}). Others turn neighbours, (x_2i, x_{2i + 1})."""
    q, k, angles = _sample(1, 2, 3, 8), _sample(1, 1, 3, 8), _sample(1, 3, 4).repeat(1, 1, 2)
    try:
        turned = own(q, k, angles.cos(), angles.sin())
    except (TypeError, RuntimeError, ValueError):  # it has another signature
        return False
    cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    return all(torch.allclose(a, _turned(b, cos, sin, 1.0), atol=1e-5) for a, b in zip(turned, (q, k), strict=True))


class _Linear(torch.autograd.Function):
    """A linear layer through oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_NO = grad.reshape(-1, grad.shape[-1])
        trained = ctx.needs_input_grad[1]  # not beside adapters
        grad_weight = grad_NO.t() @ x.reshape(-1, x.shape[-1]) if trained else None
        return _product(grad, weight.t().contiguous(), None), grad_weight, grad_NO.sum(0) if ctx.biased else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or module.weight.dtype != torch.float32:
        return nn.functional.linear(x, module.weight, module.bias)
    out: Tensor = _Linear.apply(x, module.weight, module.bias)
    return out
