"""What a card can do, measured, and what a step of a run cannot do without: the floor of its products and its reads.

Shapes: Nb parameters of the layers' matrices, V·d of the head, L layers of h heads of size a, rows of S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from carerl.config.plan.memory import kv_bytes_per_token
from carerl.config.plan.sharding import BYTES
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters
from tests.gpu.hardware import DEVICE, TOY, seconds

SIDE = 256 if TOY else 8192  # of the square matrices that are multiplied
COPIED = 2**22 if TOY else 2**33  # bytes, far more than a cache holds
REPEATS = 10  # so that launching a kernel is no part of what is measured


@dataclass(frozen=True)
class Limits:
    """Holds what this device reaches: FLOP/s of bfloat16 products, and bytes/s of its memory, read and written."""

    flops: float
    bytes: float


def measured() -> Limits:
    """Measures this device, and gives back what memory that took."""
    found = Limits(_product_rate(), _copy_rate())
    if not TOY:
        torch.cuda.empty_cache()
    return found


def _product_rate() -> float:
    left, right = (torch.randn(SIDE, SIDE, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    target = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(REPEATS):
            torch.mm(left, right, out=target)

    return REPEATS * 2.0 * SIDE**3 / seconds(multiply)  # a multiplication and an addition for each pair of numbers


def _copy_rate() -> float:
    source = torch.zeros(COPIED, device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(REPEATS):
            target.copy_(source)

    return REPEATS * 2.0 * COPIED / seconds(copy)


@dataclass(frozen=True)
class Batch:
    """Says what a step samples and trains: rows of ``prompt`` and, in the mean, ``response`` tokens."""

    rows: int
    prompt: float
    response: float

    @property
    def tokens(self) -> float:
        return self.rows * (self.prompt + self.response)


def update_flop(config: RunConfig, shape: ShapeConfig, batch: Batch) -> float:
    """Returns the FLOP that an update of a step cannot do without, whatever the code does beside them.

    Forward, a token costs 2·Nb + 2·L·h·a·S in the layers (S: a causal row sees half of itself), and a response token
    2·V·d in the head. A trained matrix costs that twice more in the backward pass, one that keeps its values once more.
    Further passes forward: the reference's, and log-probs before the first optimizer step of all minibatches but the
    first. Not counted: what gradient checkpointing computes again (the layers, forward: with it a share of 80 % is all
    that can be had), adapters (1 % at rank 32 and 7B), padding, the optimizer.
    """
    head = shape.vocab_size * shape.hidden_size
    row = batch.prompt + batch.response
    attention = 2 * shape.num_layers * shape.num_heads * shape.head_dim * row
    layers_forward = (2 * (count_parameters(shape).matmul - head) + attention) * batch.tokens
    head_forward = 2 * head * batch.rows * batch.response
    algorithm = config.algorithm
    passes = algorithm.epochs * (2 if config.learner.lora.rank else 3)
    passes += algorithm.epochs * (config.regularizer.beta > 0)
    return (passes + (algorithm.minibatches - 1) / algorithm.minibatches) * (layers_forward + head_forward)


def decode_limit(config: RunConfig, shape: ShapeConfig, batch: Batch, bytes_per_second: float) -> float:
    """Returns the tokens/s that the memory allows an engine that decodes all rows of a batch at one time.

    Each step reads the weights that every token is multiplied with, and the keys and values of all rows, which are half
    a response past their prompts in the mean. Reading the prompts is not counted."""
    weights = BYTES[config.model.dtype] * count_parameters(shape).matmul
    cached = batch.rows * (batch.prompt + batch.response / 2) * kv_bytes_per_token(config, shape)
    return batch.rows * bytes_per_second / (weights + cached)
