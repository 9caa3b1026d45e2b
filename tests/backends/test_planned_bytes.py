"""What a plan says of bytes against what a real learner sends and writes, on the tiny model.

The learner's own worker runs here in one process with gloo; in place of Ray's object store stands a list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carerl.actors.workers import learner as workers
from carerl.backends.transfer.buckets import Bucket
from carerl.config.load import load
from carerl.config.plan.plan import plan
from carerl.config.schema import RunConfig
from tests.backends.learners.ranks import on_ranks


def settings(*words: str) -> RunConfig:
    small = ["recipe=care_grpo_tiny", "learner.threads=1", "sync.bucket_mib=1"]
    return load([*small, *words])


def _worker(config: RunConfig) -> Any:
    worker = workers.LearnerWorker()
    worker.load(config, "")
    return worker


def _published(config: RunConfig) -> list[Bucket]:
    stored: list[Bucket] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.ray, "put", stored.append)
        worker = _worker(config)
        worker.publish(first=False)
        assert stored == [], "only the first rank sends"
        worker.publish(first=True)
    return stored


@pytest.mark.parametrize("tied", ["true", "false"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sync_sends_the_bytes_that_the_plan_says(dtype: str, tied: str) -> None:
    config = settings(f"model.dtype={dtype}", f"model.shape.tie_embeddings={tied}", "model.shape.hidden_size=256")
    stored = on_ranks(1, _published, config)
    sent = sum(tensor.nbytes for bucket in stored for _, tensor in bucket)
    assert sent == plan(config).sync_bytes


def _written(config: RunConfig, folder: Path) -> None:
    worker = _worker(config)
    learner = worker._learner
    for parameter in learner._parameters:  # moments exist from the first step on
        parameter.grad = parameter.detach().clone()
    learner.optimizer.step()
    worker.save(str(folder / "learner"))
    worker.export(str(folder / "model"), None, True, config.model.dtype)


def test_a_checkpoint_takes_the_bytes_that_the_plan_says(tmp_path: Path) -> None:
    config = settings("model.dtype=bfloat16", "model.shape.hidden_size=256")
    on_ranks(1, _written, config, tmp_path)
    files = [*tmp_path.rglob("*.distcp"), tmp_path / "model" / "model.safetensors"]
    written = sum(file.stat().st_size for file in files)
    planned = plan(config).checkpoint_bytes
    assert planned <= written < 1.05 * planned, "headers"
