"""Weights in buckets, and what proves that they arrived, all of them.

A sync is a list of buckets of (name, CPU tensor) pairs with one checksum over all of them. Before it touches an engine
the receiver proves two things. The checksum: these are the bytes that were sent. The names and shapes, which it knows
from the model's own config: nothing was left out, by the sender either, whose checksum would leave out the same. A
layer that a step of 1e-6 has passed by cannot be seen in bfloat16's log-probs. Whether the engine then *uses* the new
weights only the parity probe can tell.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

Bucket = list[tuple[str, Tensor]]


class IncompleteWeights(RuntimeError):
    """A sync did not bring every tensor of the model exactly once."""


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


def check_complete(pairs: Sequence[tuple[str, Tensor]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises IncompleteWeights unless the tensors are those of ``shapes``, each once. See
    :func:`carerl.backends.models.parameter_shapes`."""
    times = Counter(name for name, _ in pairs)
    problems = {
        "missing": [name for name in shapes if name not in times],
        "sent more than once": [name for name, count in times.items() if count > 1],
        "not of the model": [name for name in times if name not in shapes],
        "of another shape than the model's": [
            name for name, tensor in pairs if name in shapes and tuple(tensor.shape) != shapes[name]
        ],
    }
    found = [f"{len(names)} {problem} ({names[0]})" for problem, names in problems.items() if names]
    if found:
        raise IncompleteWeights(f"of the model's {len(shapes)} tensors {', '.join(found)}")
