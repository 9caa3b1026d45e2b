"""How weights are cut into buckets, and found in them."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carerl.backends.transfer.buckets import ALIGNMENT, bucket_bytes, buckets, described, dtype_of, slots_of
from carerl.backends.transfer.source import TensorMeta

DTYPES = [torch.float32, torch.bfloat16, torch.int8]
METAS = st.builds(
    TensorMeta,
    name=st.text("abc.", min_size=1, max_size=6),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
)


@given(st.lists(METAS, min_size=1, max_size=30), st.integers(1, 2000))
def test_every_tensor_has_a_place_of_its_own_in_order(metadata: list[TensorMeta], limit: int) -> None:
    cut = buckets(metadata, limit / 2**20)
    slots = [slot for bucket in cut for slot in bucket]
    assert [(slot.name, dtype_of(slot.dtype), slot.shape) for slot in slots] == [
        (meta.name, meta.dtype, meta.shape) for meta in metadata
    ]
    for bucket in cut:
        assert len(bucket) == 1 or bucket_bytes(bucket) <= limit + ALIGNMENT
        begin = 0
        for slot in bucket:
            assert slot.start >= begin and slot.start % ALIGNMENT == 0
            begin = slot.start + slot.bytes
        assert bucket_bytes(bucket) >= begin


def test_pitfall_14_buckets_are_filled_up_and_a_larger_tensor_has_its_own() -> None:
    metadata = [TensorMeta(f"t{k}", torch.float32, (n * 256,)) for k, n in enumerate((1, 1, 5, 1, 1))]  # n KiB
    assert [[slot.name for slot in bucket] for bucket in buckets(metadata, 2 / 1024)] == [
        ["t0", "t1"],
        ["t2"],
        ["t3", "t4"],
    ]


def test_a_tensor_is_found_again_where_it_was_put_on_another_machine_too() -> None:
    given_ = {
        "a": torch.arange(5, dtype=torch.bfloat16),
        "b": torch.randn(3, 2),
        "c": torch.tensor(7, dtype=torch.int8),
    }
    (slots,) = buckets([TensorMeta(name, t.dtype, tuple(t.shape)) for name, t in given_.items()], 1)
    buffer_N = torch.zeros(bucket_bytes(slots), dtype=torch.uint8)
    for slot in slots:
        slot.of(buffer_N).copy_(given_[slot.name])
    for slot in slots_of(json.loads(json.dumps(described(slots)))):
        assert torch.equal(slot.of(buffer_N), given_[slot.name])
        assert slot.of(buffer_N).dtype == given_[slot.name].dtype


def test_a_word_that_is_no_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="load is no dtype"):
        dtype_of("load")
