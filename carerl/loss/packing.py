"""Packs prompts and responses into the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from carerl.types import TokenBatch


def pack_rows(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float = 1.0
) -> TokenBatch:
    """Packs prompts and responses into rows, right-padded with 0, without streams. Raises ValueError for an empty
    prompt."""
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt is empty: there is nothing to predict its response's first token from")
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    width = max((len(row) for row in rows), default=0)
    return TokenBatch(
        input_ids_BS=torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.long).reshape(
            len(rows), width
        ),
        prompt_lengths_B=torch.tensor([len(prompt) for prompt in prompts], dtype=torch.long),
        response_lengths_B=torch.tensor([len(response) for response in responses], dtype=torch.long),
        temperature=temperature,
    )
