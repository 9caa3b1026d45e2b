"""Means over the tokens of a row, for what belongs to a whole response."""

from __future__ import annotations

import torch
from torch import Tensor


def row_means(values_N: Tensor, lengths_B: Tensor | None) -> Tensor:
    """(N,): at every token the mean of ``values_N`` over its own row, with gradient.

    Tokens are row-major without padding, ``lengths_B`` says how many of them are each row's. A row of length 0 has
    neither a token nor a mean. Raises ValueError without lengths, or if they do not add up to N.
    """
    if lengths_B is None or int(lengths_B.sum()) != values_N.numel():
        raise ValueError(f"{values_N.numel()} tokens cannot be dealt to rows of the lengths {lengths_B}")
    if values_N.numel() == 0:
        return values_N
    # Over a padded grid and not by index_add, whose sums on a GPU come in another order in every run.
    mask_BT = torch.arange(int(lengths_B.max()), device=values_N.device)[None, :] < lengths_B[:, None]
    grid_BT = values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)
    means_B1 = grid_BT.sum(dim=1, keepdim=True) / lengths_B.clamp(min=1)[:, None]
    return means_B1.expand_as(grid_BT)[mask_BT]
