"""Writes weights as safetensors: in one file, or in several with an index where one would grow too large.

The safetensors library writes files as well, but nothing can look at the bytes on their way, so that a second reading
would be needed to hash them. The format is small: the length of a header (8 bytes, little endian), the header (JSON),
then the tensors one after the other. https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from carerl.backends.hashed import HashedFile, Written, hashed
from carerl.config.stored_weights import INDEX, SINGLE

FILE_BYTES = 4 * 2**30  # of tensors in a file, at most, unless a single tensor has more
NAMES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
ORDER = list(NAMES)  # in which the library lays out a file


def write_weights(directory: Path, weights: Mapping[str, Tensor]) -> dict[str, Written]:
    """Writes tensors of the CPU into ``model.safetensors``, or into several files of at most ``FILE_BYTES`` that an
    index lists. Returns every file that it wrote, by its path. Raises OSError."""
    parts = _parts(weights, FILE_BYTES)
    single = len(parts) == 1
    files = [SINGLE] if single else [f"model-{k + 1:05d}-of-{len(parts):05d}.safetensors" for k in range(len(parts))]
    written: dict[str, Written] = {}
    for name, part in zip(files, parts, strict=True):
        with hashed(directory / name, written) as file:
            write_safetensors(file, {tensor: weights[tensor] for tensor in part}, {"format": "pt"})  # as loaders ask
    if not single:
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in weights.values())},
            "weight_map": {tensor: name for name, part in zip(files, parts, strict=True) for tensor in part},
        }
        with hashed(directory / INDEX, written) as file:
            file.write((json.dumps(index, indent=2) + "\n").encode())
    return written


def _parts(weights: Mapping[str, Tensor], file_bytes: int) -> list[list[str]]:
    """Returns the names that go into each file, in their order."""
    parts: list[list[str]] = [[]]
    size = 0
    for name, tensor in weights.items():
        if parts[-1] and size + tensor.nbytes > file_bytes:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += tensor.nbytes
    return parts


def write_safetensors(file: HashedFile, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes one file of tensors of the CPU, with the bytes that the safetensors library would write."""
    ordered = sorted(weights, key=lambda name: (ORDER.index(weights[name].dtype), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in ordered:
        tensor = weights[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that tensors begin at a multiple of 8
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in ordered:
        file.write(weights[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy())
