"""The group of one process that learners are tested in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from carerl.actors.workers.learner import LOOPBACK, LearnerWorker
from carerl.backends.engines import ENGINES
from carerl.backends.models import save_model
from carerl.config.load import load
from carerl.tasks.tiny.tokenizer import make_tokenizer
from tests.backends.engines.test_engines import CONTEXT, fresh, weights
from tests.backends.learners.ranks import alone, end_group
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


@pytest.mark.engine
def test_a_group_that_vllm_leaves_behind_is_ended(tmp_path: Path) -> None:
    """Together with vLLM's own groups: it ends those at the exit, and wants the first one for that."""
    from vllm.distributed.parallel_state import model_parallel_is_initialized

    model = fresh(1)
    save_model(tmp_path, model.config, weights(model), make_tokenizer())
    lengths = [f"model.shape.context_length={CONTEXT}", f"rollout.max_model_len={CONTEXT}"]
    engine = ENGINES["vllm"].build(load(["recipe=care_grpo_tiny", *lengths]), str(tmp_path))
    assert dist.is_initialized() and model_parallel_is_initialized()
    end_group()
    assert not dist.is_initialized() and not model_parallel_is_initialized()
    worker = LearnerWorker()
    worker.join(0, 1, LOOPBACK, worker.meet(1, LOOPBACK), 0.0)
    total = torch.ones(2)
    dist.all_reduce(total)
    assert total.tolist() == [1.0, 1.0]
    end_group()
    assert not dist.is_initialized()
    del engine  # not before: now and then it ends its groups as it goes
