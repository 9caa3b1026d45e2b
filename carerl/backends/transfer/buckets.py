"""Cuts weights into buckets, and proves that all of them arrived.

A sync is a list of buckets of (name, CPU tensor) pairs with one checksum over all of them. Before the receiver touches
an engine it checks two things:

- the checksum: these are the bytes that were sent;
- names and shapes, which it knows from the model's config: nothing is missing. The checksum cannot show that, because a
  sender that leaves out a tensor leaves it out of the checksum too. Nor can log-probs: in bfloat16 they do not show a
  layer that missed a step of 1e-6.

Only the parity probe can tell if the engine then *uses* the new weights.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

Bucket = list[tuple[str, Tensor]]


class IncompleteWeights(RuntimeError):
    """Refuses a sync that does not bring every tensor of the model exactly once."""


def buckets(tensors: Iterable[tuple[str, Tensor]], limit_mib: int) -> Iterator[Bucket]:
    """Groups consecutive tensors into buckets of up to ``limit_mib`` MiB. A larger tensor is a bucket of its own."""
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
    """Computes a checksum of names, shapes, dtypes and bytes of CPU tensors. Their order does not matter."""
    total = 0
    for name, tensor in pairs:
        head = zlib.crc32(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        body = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
        total = (total + zlib.crc32(body.tobytes(), head)) & 0xFFFFFFFFFFFFFFFF
    return total


def check_complete(pairs: Sequence[tuple[str, Tensor]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses tensors that are not exactly those of ``shapes``, each once. Raises IncompleteWeights.

    ``shapes``: see :func:`carerl.backends.models.parameter_shapes`.
    """
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
