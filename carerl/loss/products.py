"""Multiplies hidden states with a head, and the gradient of the logits with both.

    logits                        z = h Wᵀ
    gradient of hidden states    dh = dz W
    gradient of the head         dW += dzᵀ h

There are two ways. :class:`WideProducts` widens h and W to float32 (or float64) and multiplies there. A GPU does that
outside of its tensor cores, at a fifteenth of their rate. :class:`Bfloat16Products` leaves h and W in bfloat16 and only
sums in float32. It loses nothing in z: a product of two bfloat16 numbers has 16 significant bits, so it is exact in
float32. dz is float32, and is split into two bfloat16 terms,

    hi = bf16(dz),   lo = bf16(dz − hi),   |dz − hi − lo| ≤ 2⁻¹⁶ |dz|

The low term matters: with hi alone an entry is wrong by up to 2⁻⁸, more than the rounding of a gradient that is small
beside its addends. Both terms stand below each other, so that each gradient is one product: [hi; lo] W gives the two
parts of dh, and [hi; lo]ᵀ [h; h] adds both parts of dW in one pass over its buffer. [ours]
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Products(Protocol):
    """The products with one head. C tokens of a chunk, V vocabulary, D hidden size."""

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """Returns h Wᵀ (C, V), wide."""
        ...

    def factor(self, dz_CV: Tensor) -> Tensor:
        """Returns dz as both gradients take it. Gives up ``dz_CV``, which may be overwritten."""
        ...

    def hidden_gradient(self, factor: Tensor, out_CD: Tensor) -> None:
        """Writes dz W into ``out_CD``, wide."""
        ...

    def add_head_gradient(self, factor: Tensor, hidden_CD: Tensor, out_VD: Tensor) -> None:
        """Adds dzᵀ h to ``out_VD``, wide."""
        ...


def products_with(weight_VD: Tensor, hidden_dtype: torch.dtype, wide: torch.dtype) -> Products:
    """Returns the products for a head and hidden states of a type, with results in the wide type."""
    narrow = weight_VD.dtype == hidden_dtype == torch.bfloat16 and wide == torch.float32
    if narrow and sums_bfloat16_in_float32(weight_VD.device):
        return Bfloat16Products(weight_VD)
    return WideProducts(weight_VD, wide)


def sums_bfloat16_in_float32(device: torch.device) -> bool:
    """Returns True if torch multiplies bfloat16 on this device with sums and results in float32: on CUDA alone."""
    return device.type == "cuda"


class WideProducts:
    """Products in the wide type. The head is widened once for all chunks of a pass."""

    def __init__(self, weight_VD: Tensor, wide: torch.dtype):
        self._weight_VD = weight_VD.to(wide)

    def logits(self, hidden_CD: Tensor) -> Tensor:
        return torch.nn.functional.linear(hidden_CD.to(self._weight_VD.dtype), self._weight_VD)

    def factor(self, dz_CV: Tensor) -> Tensor:
        return dz_CV

    def hidden_gradient(self, factor: Tensor, out_CD: Tensor) -> None:
        torch.mm(factor, self._weight_VD, out=out_CD)

    def add_head_gradient(self, factor: Tensor, hidden_CD: Tensor, out_VD: Tensor) -> None:
        out_VD.addmm_(factor.T, hidden_CD.to(self._weight_VD.dtype))


class Bfloat16Products:
    """Products of bfloat16 with float32 sums. Nothing is widened and no copy of the head is made."""

    def __init__(self, weight_VD: Tensor):
        self._weight_VD = weight_VD

    def logits(self, hidden_CD: Tensor) -> Tensor:
        return _product(hidden_CD, self._weight_VD.T)

    def factor(self, dz_CV: Tensor) -> Tensor:
        """Returns hi and lo, one below the other (2C, V)."""
        terms_2CV = dz_CV.new_empty(2, *dz_CV.shape, dtype=torch.bfloat16)
        terms_2CV[0].copy_(dz_CV)
        terms_2CV[1].copy_(dz_CV.sub_(terms_2CV[0]))  # exact: hi is dz without its last bits
        return terms_2CV.flatten(0, 1)

    def hidden_gradient(self, factor: Tensor, out_CD: Tensor) -> None:
        high_CD, low_CD = _product(factor, self._weight_VD).chunk(2)
        torch.add(high_CD, low_CD, out=out_CD)

    def add_head_gradient(self, factor: Tensor, hidden_CD: Tensor, out_VD: Tensor) -> None:
        _add_product(out_VD, factor.T, hidden_CD.repeat(2, 1))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Returns a @ b of two bfloat16 matrices, in float32.

    The CPU has no such product. There both are widened, which gives the same up to the order of the sums: for tests.
    """
    if a.device.type == "cpu":
        return a.float() @ b.float()
    return torch.mm(a, b, out_dtype=torch.float32)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds a @ b of two bfloat16 matrices to a float32 matrix, in place: a copy of ``total`` would be a head's size."""
    if a.device.type == "cpu":
        total.addmm_(a.float(), b.float())
    else:  # ``total`` may be float32 beside bfloat16 factors from torch 2.10 on
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
