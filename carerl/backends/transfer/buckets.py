"""Cuts weights into buckets, and lays out the tensors of each in one stretch of bytes.

Sender and receiver agree on a bucket by its list of slots. The receiver looks at the tensors where they lie, without a
copy. So a bucket may be overwritten only when the receiver is done with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from carerl.backends.transfer.source import TensorMeta

ALIGNMENT = 64  # bytes; any dtype may begin there


@dataclass(frozen=True)
class Slot:
    """Says where a tensor lies in its bucket, in bytes."""

    name: str
    dtype: str  # as torch names it, without "torch."
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * dtype_of(self.dtype).itemsize

    def of(self, buffer_N: Tensor) -> Tensor:
        """Returns the tensor in a bucket's bytes, as a view."""
        return buffer_N[self.start : self.start + self.bytes].view(dtype_of(self.dtype)).view(self.shape)


def dtype_of(name: str) -> torch.dtype:
    """Returns torch's dtype of a name. Raises ValueError for any other attribute of torch."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name} is no dtype")
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """Returns a dtype's name, as :func:`dtype_of` and vLLM read it."""
    return str(dtype).removeprefix("torch.")


def buckets(metadata: Iterable[TensorMeta], limit_mib: float) -> list[list[Slot]]:
    """Groups consecutive tensors into buckets of up to ``limit_mib`` MiB. A larger tensor is a bucket of its own."""
    found: list[list[Slot]] = []
    for meta in metadata:
        if not found or bucket_bytes(found[-1]) + meta.bytes > limit_mib * 2**20:
            found.append([])
        found[-1].append(Slot(meta.name, dtype_name(meta.dtype), meta.shape, bucket_bytes(found[-1])))
    return found


def bucket_bytes(slots: Sequence[Slot]) -> int:
    """Returns the size of a bucket, rounded up so that another tensor may follow."""
    return slots[-1].start + _aligned(slots[-1].bytes) if slots else 0


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def described(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """Returns slots as plain values, which may cross any border between processes."""
    return [asdict(slot) for slot in slots]


def slots_of(described: Iterable[dict[str, Any]]) -> list[Slot]:
    """Reads what :func:`described` wrote."""
    return [Slot(**{**one, "shape": tuple(one["shape"])}) for one in described]
