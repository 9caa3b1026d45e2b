"""What pinned copies of a model take, tensor by tensor. Whether torch rounds so: its header, as no GPU is here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from carerl.config.load import load
from carerl.config.plan.pinned import pinned_growth
from carerl.config.schema import ShapeConfig

SEVEN = load(["recipe=care_grpo_7b"]).model.shape


def test_each_tensor_is_rounded_up_by_itself() -> None:
    """Qwen2.5-7B in bfloat16, MiB: embedding and head 1,039.5 each, in each of 28 layers gate, up and down 129.5,
    queries and outputs 24.5, keys and values 3.5."""
    sizes = 2 * 1039.5 + 28 * (3 * 129.5 + 2 * 24.5 + 2 * 3.5)
    rounded = 2 * 2048 + 28 * (3 * 256 + 2 * 32 + 2 * 4)
    assert pinned_growth(SEVEN, 2) == pytest.approx(rounded / sizes)
    # of the moments in float32 a rank of eight has a quarter of each tensor's bytes in bfloat16, so the same rounding
    assert pinned_growth(SEVEN, 4, 8) == pytest.approx(pinned_growth(SEVEN, 2))


def test_tensors_of_a_power_of_two_do_not_grow() -> None:
    shape = ShapeConfig(
        vocab_size=1024, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16
    )
    assert pinned_growth(shape, 4) == pinned_growth(shape, 2, 2) == 1.0
    assert pinned_growth(shape, 4, 3) == pytest.approx(3 / 2, rel=0.01), "thirds of them do"
    shape.vocab_size += 1
    assert 1.0 < pinned_growth(shape, 4) <= 2.0


def test_the_installed_torch_rounds_without_a_limit_of_its_own() -> None:
    """A torch that does otherwise makes this plan wrong."""
    include = Path(torch.__file__).parent / "include"
    allocator = (include / "ATen/core/CachingHostAllocator.h").read_text()
    assert "return c10::llvm::PowerOf2Ceil(size);" in allocator
    settings = (include / "c10/core/AllocatorConfig.h").read_text()
    for name in ("pinned_max_round_threshold_", "pinned_max_cached_size_"):
        assert re.search(rf"size_t {name}\{{std::numeric_limits<size_t>::max\(\)\}}", settings), name
