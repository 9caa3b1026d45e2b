"""The records that travel: what selecting rows does to packed vectors."""

from __future__ import annotations

import pytest
import torch

from carerl.types import TokenBatch, TokenVectors, with_shares

LENGTHS = torch.tensor([2, 0, 3, 1, 0, 4])


def batch() -> TokenBatch:
    return TokenBatch(torch.zeros(6, 7, dtype=torch.long), torch.full((6,), 3), LENGTHS)


@pytest.mark.parametrize("cut", [(6,), (3, 3), (1, 1, 4), (2, 0, 4)])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 0, 2], [3, 3], [1, 4], []])
def test_packed_vectors_of_rows_are_theirs_however_they_came_in(cut: tuple[int, ...], rows: list[int]) -> None:
    values_ND = torch.arange(20.0).reshape(10, 2)
    tokens = [int(part.sum()) for part in LENGTHS.split(list(cut))]
    whole = with_shares(batch(), tuple({"ref_hidden_ND": part} for part in values_ND.split(tokens)))
    chosen = whole.select(rows)
    assert isinstance(chosen.ref_hidden, TokenVectors)
    by_row = values_ND.split(LENGTHS.tolist())
    expected = torch.cat([by_row[row] for row in rows]) if rows else values_ND[:0]
    assert torch.equal(chosen.ref_hidden.values_ND, expected)
    assert chosen.ref_hidden.lengths_B.tolist() == chosen.response_lengths_B.tolist()
    if rows:  # a selection of a selection
        again = chosen.select([len(rows) - 1]).ref_hidden
        assert again is not None and torch.equal(again.values_ND, by_row[rows[-1]])


def test_nothing_is_copied_before_rows_are_selected() -> None:
    parts_ND = torch.zeros(5, 2), torch.ones(5, 2)
    whole = with_shares(batch(), ({"ref_hidden_ND": parts_ND[0]}, {"ref_hidden_ND": parts_ND[1]}))
    assert whole.ref_hidden is not None
    assert [part.data_ptr() for part in whole.ref_hidden.parts_ND] == [part.data_ptr() for part in parts_ND]
