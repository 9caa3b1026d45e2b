"""How a batch is laid out flat, and how the reference's streams join it."""

from __future__ import annotations

import torch

from carerl.loss.streams import ReferenceShare, flatten, with_shares
from carerl.types import TokenBatch


def test_flatten_is_row_major():
    batch = TokenBatch(
        torch.zeros(2, 5, dtype=torch.long), torch.tensor([2, 3]), torch.tensor([2, 1]),
        advantages_BT=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    )  # fmt: skip
    assert flatten(batch).advantages_N.tolist() == [1.0, 2.0, 3.0]
    assert flatten(batch).policy_weight_N is None


def test_shares_come_to_their_rows_in_any_order_and_hidden_states_are_not_copied() -> None:
    lengths_B = torch.tensor([2, 0, 3, 1, 0, 4])
    batch = TokenBatch(torch.zeros(6, 7, dtype=torch.long), torch.full((6,), 3), lengths_B)
    rows, parts_ND = ((5, 0), (3,)), (torch.zeros(6, 2), torch.ones(1, 2))
    whole = with_shares(batch, [ReferenceShare(*share, hidden_ND=h) for *share, h in zip(rows, parts_ND, strict=True)])
    assert whole.ref_hidden is not None and whole.ref_hidden.lengths_B is lengths_B
    assert [part.data_ptr() for part in whole.ref_hidden.parts_ND] == [part.data_ptr() for part in parts_ND]
    values = (torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]), torch.tensor([-7.0]))
    whole = with_shares(batch, [ReferenceShare(*share) for share in zip(rows, values, strict=True)])
    assert whole.ref_hidden is None and whole.ref_logprobs_BT is not None
    expected = [[-5, -6, 0, 0], [0] * 4, [0] * 4, [-7, 0, 0, 0], [0] * 4, [-1, -2, -3, -4]]
    assert whole.ref_logprobs_BT.tolist() == expected, "rows 2 and 4 are another rank's"
    assert with_shares(batch, ()) is batch
