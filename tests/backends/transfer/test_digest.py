"""The digest of what was sent, and that all of it came.

That engines use what arrives is in ``test_engines.py`` and ``tests/e2e``; a sender that leaves something out in
``test_parity_limits.py``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carerl.backends.transfer.digest import IncompleteWeights, Received, Tally, words_sum

PAIRS = [("a", torch.arange(6.0).reshape(2, 3)), ("b", torch.ones(4)), ("c", torch.tensor([1, 2], dtype=torch.int32))]


def tallied(pairs: list[tuple[str, Tensor]]) -> Received:
    tally = Tally()
    assert list(tally.passing(pairs)) == pairs
    return tally.received


def flipped(tensor: Tensor, place: int = 0, bit: int = 0) -> Tensor:
    """One bit of one number changed: by default the lowest of the mantissa."""
    bits = tensor.clone().view(torch.int32)
    bits.view(-1)[place] ^= (1 << bit) if bit < 31 else -(1 << 31)
    return bits.view(torch.float32)


@pytest.mark.parametrize(
    "changed",
    [
        [("a", flipped(PAIRS[0][1])), *PAIRS[1:]],
        PAIRS[1:],
        [("a", PAIRS[0][1].reshape(3, 2)), *PAIRS[1:]],
        [("a", PAIRS[0][1].view(torch.int32)), *PAIRS[1:]],
        [("b", PAIRS[0][1]), ("a", PAIRS[1][1]), PAIRS[2]],
        [*PAIRS, ("d", torch.zeros(0))],
    ],
    ids=["one bit", "one tensor less", "shape", "dtype of the same bits", "names exchanged", "an empty tensor more"],
)
def test_pitfall_14_the_digest_notices(changed: list[tuple[str, Tensor]]) -> None:
    assert tallied(changed).digest != tallied(PAIRS).digest


def test_pitfall_14_two_tensors_of_one_shape_cannot_be_exchanged() -> None:
    """Also where they differ by one number alone, whose place is the same in both."""
    one, other = torch.zeros(64), torch.zeros(64)
    other[5] = 1.0
    layers = [("layers.0.w", one), ("layers.1.w", other)]
    assert tallied(layers).digest != tallied([("layers.0.w", other), ("layers.1.w", one)]).digest


@pytest.mark.parametrize("size", [1, 2, 3, 4095, 8192, 8193, 20011])
def test_every_bit_and_every_place_counts(size: int) -> None:
    """Sizes on both sides of a word, and of a row of the table that is summed."""
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size))
    whole = int(words_sum(tensor))
    for place in {0, size // 2, size - 1}:
        assert len({int(words_sum(flipped(tensor, place, bit))) for bit in range(32)} | {whole}) == 33
    if size > 2:
        moved = tensor.clone()
        moved[[0, size - 1]] = tensor[[size - 1, 0]]
        assert int(words_sum(moved)) != whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8])
@pytest.mark.parametrize("size", [1, 5, 8192, 9001])
def test_the_sum_is_the_one_that_is_written(dtype: torch.dtype, size: int) -> None:
    """Σ (2i + 1) · w_i over the words, by Python's integers."""
    tensor = (torch.randn(size, generator=torch.Generator().manual_seed(1)) * 50).to(dtype)
    raw = bytes(tensor.view(torch.uint8).tolist())
    raw += b"\0" * (-len(raw) % 8)
    words = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
    expected = sum((2 * i + 1) * word for i, word in enumerate(words)) % 2**64
    assert int(words_sum(tensor)) % 2**64 == expected
    padded = torch.cat([tensor[:1], tensor])[1:]  # begins where no word may begin
    assert int(words_sum(padded)) % 2**64 == expected


def test_neither_order_nor_layout_count() -> None:
    again = [(name, torch.stack([tensor, tensor], dim=-1)[..., 0]) for name, tensor in reversed(PAIRS)]
    assert not again[0][1].is_contiguous()
    assert tallied(again).digest == tallied(PAIRS).digest
    assert tallied(PAIRS).bytes == 24 + 16 + 8


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
        tallied(pairs).check_complete(SHAPES)


def test_whole_weights_are_whole_in_any_order() -> None:
    tallied(PAIRS[::-1]).check_complete(SHAPES)
