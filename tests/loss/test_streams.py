"""How a batch is laid out flat, and how the reference's streams join it."""

from __future__ import annotations

import torch

from carerl.loss.streams import flatten, with_shares
from carerl.types import TokenBatch


def test_flatten_is_row_major():
    batch = TokenBatch(
        torch.zeros(2, 5, dtype=torch.long), torch.tensor([2, 3]), torch.tensor([2, 1]),
        advantages_BT=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    )  # fmt: skip
    assert flatten(batch).advantages_N.tolist() == [1.0, 2.0, 3.0]
    assert flatten(batch).policy_weight_N is None


def test_shares_join_in_their_order_and_hidden_states_are_not_copied() -> None:
    lengths_B = torch.tensor([2, 0, 3, 1, 0, 4])
    batch = TokenBatch(torch.zeros(6, 7, dtype=torch.long), torch.full((6,), 3), lengths_B)
    parts_ND = torch.zeros(5, 2), torch.ones(5, 2)
    whole = with_shares(batch, tuple({"ref_hidden_ND": part_ND} for part_ND in parts_ND))
    assert whole.ref_hidden is not None and whole.ref_hidden.lengths_B is lengths_B
    assert [part.data_ptr() for part in whole.ref_hidden.parts_ND] == [part.data_ptr() for part in parts_ND]
    parts_BT = torch.full((2, 4), -1.0), torch.full((4, 4), -2.0)
    whole = with_shares(batch, tuple({"ref_logprobs_BT": part_BT} for part_BT in parts_BT))
    assert whole.ref_hidden is None and whole.ref_logprobs_BT is not None
    assert whole.ref_logprobs_BT[:, 0].tolist() == [-1.0] * 2 + [-2.0] * 4
    assert with_shares(batch, ()) is batch
