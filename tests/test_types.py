"""The records that travel: what selecting rows does to packed vectors."""

from __future__ import annotations

import pytest
import torch

from carerl.types import TokenBatch, TokenVectors

LENGTHS = torch.tensor([2, 0, 3, 1, 0, 4])


def batch() -> TokenBatch:
    return TokenBatch(torch.zeros(6, 7, dtype=torch.long), torch.full((6,), 3), LENGTHS)


@pytest.mark.parametrize("cut", [(6,), (3, 3), (1, 1, 4), (2, 0, 4)])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 0, 2], [3, 3], [1, 4], []])
def test_packed_vectors_of_rows_are_theirs_however_they_came_in(cut: tuple[int, ...], rows: list[int]) -> None:
    values_ND = torch.arange(20.0).reshape(10, 2)
    tokens = [int(part.sum()) for part in LENGTHS.split(list(cut))]
    whole = batch().with_streams(ref_hidden=TokenVectors(values_ND.split(tokens), LENGTHS))
    chosen = whole.select(rows)
    assert isinstance(chosen.ref_hidden, TokenVectors)
    by_row = values_ND.split(LENGTHS.tolist())
    expected = torch.cat([by_row[row] for row in rows]) if rows else values_ND[:0]
    assert torch.equal(chosen.ref_hidden.values_ND, expected)
    assert chosen.ref_hidden.lengths_B.tolist() == chosen.response_lengths_B.tolist()
    if rows:  # a selection of a selection
        again = chosen.select([len(rows) - 1]).ref_hidden
        assert again is not None and torch.equal(again.values_ND, by_row[rows[-1]])
