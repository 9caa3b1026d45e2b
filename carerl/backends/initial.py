"""Initialises a tiny model, in a way that was found to let it learn in its 2,000 steps."""

from __future__ import annotations

import math

import torch
from torch import nn

EMBEDDING_STD = 0.08
RESIDUAL_OUTPUTS = ("o_proj", "down_proj")


@torch.no_grad()
def init_tiny(model: nn.Module, generator: torch.Generator) -> None:
    """Draws all parameters anew, in the order of ``named_modules``, from ``generator``.

    Embeddings: normal with std .08. Linear weights: normal with std 1/sqrt(fan_in), and for the two that
    write to the residual stream (``o_proj``, ``down_proj``) also / sqrt(2L). Biases 0, norms 1. A head tied
    to the embedding is drawn once, as the embedding. L is ``model.config.num_hidden_layers``.
    """
    layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    drawn: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, EMBEDDING_STD, generator=generator)
        elif isinstance(module, nn.Linear):
            if id(module.weight) not in drawn:
                std = 1.0 / math.sqrt(module.in_features)
                if name.rsplit(".", 1)[-1] in RESIDUAL_OUTPUTS:
                    std /= math.sqrt(2 * layers)
                module.weight.normal_(0.0, std, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif "norm" in type(module).__name__.lower() and getattr(module, "weight", None) is not None:
            module.weight.fill_(1.0)
        for parameter in module.parameters(recurse=False):
            drawn.add(id(parameter))
