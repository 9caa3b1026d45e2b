"""The records that travel: what selecting rows does to packed vectors."""

from __future__ import annotations

import pytest
import torch

from carerl.records.vectors import TokenVectors
from carerl.types import TokenBatch

LENGTHS = torch.tensor([2, 0, 3, 1, 0, 4])


def batch() -> TokenBatch:
    return TokenBatch(torch.zeros(6, 7, dtype=torch.long), torch.full((6,), 3), LENGTHS)


@pytest.mark.parametrize("cut", [(6,), (3, 3), (1, 1, 4), (2, 0, 4)])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 2, 1, 0, 3, 4]])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 0, 2], [3, 3], [1, 4], []])
def test_packed_vectors_of_rows_are_theirs_however_they_came_in(
    cut: tuple[int, ...], rows: list[int], order: list[int]
) -> None:
    values_ND = torch.arange(20.0).reshape(10, 2)
    by_row = values_ND.split(LENGTHS.tolist())
    came = [share.tolist() for share in torch.tensor(order).split(list(cut))]
    shares = [(share, torch.cat([values_ND[:0], *(by_row[row] for row in share)])) for share in came]
    whole = batch().with_streams(ref_hidden=TokenVectors.of(shares, LENGTHS))
    assert whole.ref_hidden is not None and torch.equal(whole.ref_hidden.values_ND, values_ND)
    chosen = whole.select(rows)
    assert isinstance(chosen.ref_hidden, TokenVectors)
    expected = torch.cat([by_row[row] for row in rows]) if rows else values_ND[:0]
    assert torch.equal(chosen.ref_hidden.values_ND, expected)
    assert chosen.ref_hidden.lengths_B.tolist() == chosen.response_lengths_B.tolist()
    if rows:  # a selection of a selection
        again = chosen.select([len(rows) - 1]).ref_hidden
        assert again is not None and torch.equal(again.values_ND, by_row[rows[-1]])


def test_vectors_that_are_elsewhere_are_never_taken_for_others() -> None:
    here = TokenVectors.of([((5, 2), torch.ones(7, 2))], LENGTHS)
    found, none = here.select(torch.tensor([2, 1, 5])), here.select(torch.tensor([1]))
    assert found is not None and len(found.values_ND) == 7, "row 1 has no tokens"
    assert none is not None and len(none.values_ND) == 0
    assert (
        here.select(torch.tensor([3])) is None
        and batch().with_streams(ref_hidden=here).select([3, 4]).ref_hidden is None
    )
    for asked in (lambda: here.values_ND, lambda: here.select(torch.tensor([2, 3]))):
        with pytest.raises(ValueError, match="only those of other rows"):
            asked()
    with pytest.raises(ValueError, match="6 vectors for rows with 7 tokens"):
        TokenVectors.of([((5, 2), torch.ones(6, 2))], LENGTHS)
