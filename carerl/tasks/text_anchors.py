"""Prompts of text for anchors: the order of a source's prompts, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RANDOM = "random"
MEASURED = 512  # training prompts whose lengths random ones have: to encode one for each would take long
_STREAM_ORDER, _STREAM_RANDOM = 1, 2  # of the run's seed; 0 is the training questions' order


def places(seed: int, size: int, start: int, n: int) -> list[int]:
    """Returns which of ``size`` prompts stand at positions ``start`` to ``start + n - 1``: epochs follow each other,
    each a permutation from (seed, epoch)."""
    orders: dict[int, np.ndarray] = {}
    found = []
    for position in range(start, start + n):
        epoch, place = divmod(position, size)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, _STREAM_ORDER, epoch]).permutation(size)
        found.append(int(orders[epoch][place]))
    return found


def random_prompts(
    tokenizer: PreTrainedTokenizerBase, seed: int, start: int, lengths: Sequence[int]
) -> list[tuple[int, ...]]:
    """Returns prompts of uniformly drawn tokens, one of each length: position ``start`` has the first. No special token
    is drawn."""
    special = set(tokenizer.all_special_ids)
    words = np.array([token for token in range(len(tokenizer)) if token not in special])
    return [
        tuple(np.random.default_rng([seed, _STREAM_RANDOM, start + k]).choice(words, length).tolist())
        for k, length in enumerate(lengths)
    ]
