"""Vectors for the tokens of some rows, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Holds a vector for each response token of some rows, without padding, because padding would be too large.

    A rank of the learner has the vectors of its own rows only. Nothing is copied until rows are selected.

    >>> parts = [((3, 0), torch.arange(6.0).reshape(3, 2)), ((2,), torch.ones(0, 2))]
    >>> vectors = TokenVectors.of(parts, torch.tensor([2, 5, 0, 1]))
    >>> vectors.select(torch.tensor([0, 3])).values_ND
    tensor([[2., 3.],
            [4., 5.],
            [0., 1.]])
    """

    parts_ND: tuple[Tensor, ...]
    """The tokens of some rows each, one row after another. At least one part."""

    lengths_B: Tensor
    """int64. Tokens of each row."""

    part_B: Tensor
    """int64. The part that holds the row's tokens; -1 for a row whose vectors are not here."""

    start_B: Tensor
    """int64. The row's first token in that part."""

    @classmethod
    def of(cls, parts: Sequence[tuple[Sequence[int], Tensor]], lengths_B: Tensor) -> TokenVectors:
        """Makes them from (rows, vectors) of each part; ``lengths_B``: tokens of every row of the batch. Raises
        ValueError for a part with another number of vectors than its rows have tokens."""
        part_B, start_B = torch.full_like(lengths_B, -1), torch.zeros_like(lengths_B)
        for number, (rows, values_ND) in enumerate(parts):
            index = torch.as_tensor(rows, dtype=torch.long)
            ends = lengths_B[index].cumsum(0)
            if len(values_ND) != (tokens := int(ends[-1]) if len(index) else 0):
                raise ValueError(f"{len(values_ND)} vectors for rows with {tokens} tokens")
            part_B[index], start_B[index] = number, ends - lengths_B[index]
        return cls(tuple(values_ND for _, values_ND in parts), lengths_B, part_B, start_B)

    @classmethod
    def whole(cls, values_ND: Tensor, lengths_B: Tensor) -> TokenVectors:
        """Makes them from the vectors of all rows, in order."""
        return cls.of([(range(len(lengths_B)), values_ND)], lengths_B)

    @property
    def values_ND(self) -> Tensor:
        """The tokens of all rows, row by row. Raises ValueError if some are not here."""
        in_order = len(self.parts_ND) == 1 and torch.equal(self.start_B, self.lengths_B.cumsum(0) - self.lengths_B)
        whole = self if in_order and bool((self.part_B == 0).all()) else self.select(torch.arange(len(self.lengths_B)))
        if whole is None:
            raise ValueError("the vectors of rows are asked for, and all of them are elsewhere")
        return whole.parts_ND[0]

    def select(self, rows: Tensor) -> TokenVectors | None:
        """Returns the given rows, in the order given; None if none of them has its vectors here. Only their tokens are
        copied. Raises ValueError where some have them here and others not."""
        if (self.lengths_B[rows] > 0).any() and not ((self.part_B[rows] >= 0) & (self.lengths_B[rows] > 0)).any():
            return None
        found = []
        where = (self.part_B[rows], self.start_B[rows], self.lengths_B[rows])
        for part, start, length in zip(*(values.tolist() for values in where), strict=True):
            if length and part < 0:
                raise ValueError("the vectors of a row are asked for where only those of other rows are")
            if length:
                found.append(self.parts_ND[part][start : start + length])
        return TokenVectors.whole(torch.cat(found) if found else self.parts_ND[0][:0], self.lengths_B[rows])
