"""The group of one process that learners are tested in."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from tests.backends.learners.ranks import alone
from tests.backends.learners.test_fsdp2 import batch
from tests.backends.learners.test_sharding import learner, update


@pytest.mark.parametrize("way", ["zero 2", "zero 3"])
def test_a_learner_of_deepspeed_works_in_each_group_of_a_process(way: str) -> None:
    """DeepSpeed makes a group of its own beside the first that it meets, and keeps it: it has to end with that one."""
    assert not dist.is_initialized()
    before = {name: os.environ.get(name) for name in ("DS_ACCELERATOR", "LOCAL_RANK")}
    rows, found = batch(torch.float32), []
    for _ in range(2):
        with alone():
            found.append(update(learner(way), rows, (0, 1))["train/grad_norm"])
        assert not dist.is_initialized()
    assert found[0] == found[1] > 0
    assert {name: os.environ.get(name) for name in before} == before
