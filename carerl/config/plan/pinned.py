"""Counts main memory that is pinned, so that a GPU copies from and to it at the link's own rate.

torch takes a block of it for each tensor, rounds its size up to a power of two, and keeps it for the next tensor of
that size (``allocate`` in torch 2.13's ``ATen/core/CachingHostAllocator.h``; read, not measured). Pinned are the
weights of a vLLM engine that sleeps (``cumem.py``), the moments of an optimizer that waits for its turn, and what FSDP2
offloads of weights and gradients, but not the optimizer's state there.
"""

from __future__ import annotations

import math

from carerl.config.schema import ShapeConfig
from carerl.config.shapes import layer_matrices


def pinned_growth(shape: ShapeConfig, bytes_each: int, ranks: int = 1) -> float:
    """Returns how many times the size of a model's tensors their pinned copies have, 1 to 2. ``ranks``: each tensor is
    cut into so many parts. Biases and norms are left out."""
    embedding = shape.vocab_size * shape.hidden_size
    sizes = [embedding] * (1 if shape.tie_embeddings else 2)
    sizes += [inputs * outputs for inputs, outputs in layer_matrices(shape).values()] * shape.num_layers
    parts = [bytes_each * math.ceil(size / ranks) for size in sizes]
    return sum(2.0 ** math.ceil(math.log2(part)) for part in parts) / sum(parts)
