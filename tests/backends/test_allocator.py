"""Growing segments are asked of torch itself, which says what it was told. What a GPU makes of it: tests/gpu."""

from __future__ import annotations

import pytest
import torch

from carerl.backends.allocator import grow_segments
from carerl.config.transfer import ALLOCATOR_VARIABLES


def told() -> str:
    return str(torch._C._accelerator_getAllocatorSettings())


@pytest.fixture(autouse=True)
def restored() -> None:
    torch._C._accelerator_setAllocatorSettings("expandable_segments:False")


def test_torch_is_told_and_can_be_told_otherwise() -> None:
    assert grow_segments(True, {}) and told() == "expandable_segments:True"
    assert not grow_segments(False, {}) and told() == "expandable_segments:False"


@pytest.mark.parametrize("name", ALLOCATOR_VARIABLES)
def test_a_users_own_settings_win(name: str) -> None:
    assert not grow_segments(True, {name: "max_split_size_mb:512"})
    assert told() == "expandable_segments:False"
