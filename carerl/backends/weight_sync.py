"""Weights in buckets, and what proves that they arrived.

A sync is a list of buckets of (name, CPU tensor) pairs with one checksum over all of them. The receiver
computes the checksum of what it was given before it touches an engine; whether the engine then *uses* the
new weights only the parity probe can tell.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Bucket = list[tuple[str, Tensor]]


def buckets(tensors: Iterable[tuple[str, Tensor]], limit_mib: int) -> Iterator[Bucket]:
    """Consecutive tensors up to ``limit_mib`` MiB a bucket (a larger tensor is a bucket of its own)."""
    bucket: Bucket = []
    size = 0
    for name, tensor in tensors:
        bytes_ = tensor.numel() * tensor.element_size()
        if bucket and size + bytes_ > limit_mib * 2**20:
            yield bucket
            bucket, size = [], 0
        bucket.append((name, tensor))
        size += bytes_
    if bucket:
        yield bucket


def checksum(pairs: Iterable[tuple[str, Tensor]]) -> int:
    """Order-independent checksum of names, shapes, dtypes and bytes of CPU tensors."""
    total = 0
    for name, tensor in pairs:
        head = zlib.crc32(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        body = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
        total = (total + zlib.crc32(body.tobytes(), head)) & 0xFFFFFFFFFFFFFFFF
    return total
