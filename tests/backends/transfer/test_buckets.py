"""Buckets, their checksum, and that they are all there.

That engines use what arrives is in ``test_engines.py`` and ``tests/e2e``; a sender that leaves something out in
``test_parity_limits.py``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carerl.backends.transfer.buckets import IncompleteWeights, buckets, check_complete, checksum

PAIRS = [("a", torch.arange(6.0).reshape(2, 3)), ("b", torch.ones(4)), ("c", torch.tensor([1, 2], dtype=torch.int32))]


def flipped(tensor: Tensor) -> Tensor:
    """One bit of one number changed: the lowest of the mantissa."""
    bits = tensor.clone().view(torch.int32)
    bits.view(-1)[0] ^= 1
    return bits.view(torch.float32)


@pytest.mark.parametrize(
    "changed",
    [
        [("a", flipped(PAIRS[0][1])), *PAIRS[1:]],
        PAIRS[1:],
        [("a", PAIRS[0][1].reshape(3, 2)), *PAIRS[1:]],
        [("a", PAIRS[0][1].double()), *PAIRS[1:]],
        [("b", PAIRS[0][1]), ("a", PAIRS[1][1]), PAIRS[2]],
        [*PAIRS, ("d", torch.zeros(0))],
    ],
    ids=["one bit", "one tensor less", "shape", "dtype", "names exchanged", "an empty tensor more"],
)
def test_pitfall_14_the_checksum_notices(changed: list[tuple[str, Tensor]]) -> None:
    assert checksum(changed) != checksum(PAIRS)


def test_the_checksum_is_of_the_numbers_and_adds_up_over_buckets() -> None:
    again = [(name, torch.stack([tensor, tensor], dim=-1)[..., 0]) for name, tensor in reversed(PAIRS)]
    assert not again[0][1].is_contiguous()
    assert checksum(again) == checksum(PAIRS)
    assert sum(checksum([pair]) for pair in PAIRS) == checksum(PAIRS)


def test_pitfall_14_buckets_hold_every_tensor_once_and_in_order() -> None:
    tensors = [(f"t{i}", torch.full((size * 2**18,), float(i))) for i, size in enumerate((1, 1, 3, 1, 0))]  # MiB
    cut = list(buckets(tensors, limit_mib=2))
    assert [[name for name, _ in bucket] for bucket in cut] == [["t0", "t1"], ["t2"], ["t3", "t4"]]
    assert checksum(pair for bucket in cut for pair in bucket) == checksum(tensors)


SHAPES = {"a": (2, 3), "b": (4,), "c": (2,)}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (PAIRS[1:], r"3 tensors 1 missing \(a\)"),
        ([PAIRS[0]], r"2 missing \(b\)"),
        ([], r"3 missing \(a\)"),
        ([*PAIRS, PAIRS[1]], r"1 sent more than once \(b\)"),
        ([*PAIRS, ("d", torch.zeros(1))], r"1 not of the model \(d\)"),
        ([("a", torch.zeros(3, 2)), *PAIRS[1:]], r"1 of another shape than the model's \(a\)"),
        ([("A", PAIRS[0][1]), *PAIRS[1:]], r"1 missing \(a\), 1 not of the model \(A\)"),
    ],
    ids=["missing", "most missing", "nothing", "twice", "too many", "shape", "renamed"],
)
def test_pitfall_14_what_is_not_whole_is_told(pairs: list[tuple[str, Tensor]], message: str) -> None:
    with pytest.raises(IncompleteWeights, match=message):
        check_complete(pairs, SHAPES)


def test_whole_weights_are_whole_in_any_order() -> None:
    check_complete(PAIRS[::-1], SHAPES)
