"""What a plan says of bytes against what a real learner sends and writes, on the tiny model.

The learner's own worker runs here in one process with gloo; in place of engines stands a list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carerl.actors.workers import learner as workers
from carerl.backends.models import DTYPES
from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Place
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


class Kept:
    """A client that keeps what is sent in place of an engine."""

    workers = 1

    def __init__(self) -> None:
        self.arrays: list[Any] = []

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.arrays += update_info["stored"]

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


def _sent(config: RunConfig) -> tuple[int, int]:
    """Returns the bytes that a rank sends by its own account, and those that come."""
    source, client = _worker(config)._learner.trained(DTYPES[config.model.dtype]), Kept()
    first, second = (Place(rank, "127.0.0.1", lambda array: array) for rank in (0, 1))
    assert TRANSFERS["store"]("store", source, client, second, 1).send().bytes == 0, "only the first rank sends"
    assert client.arrays == []
    sent = TRANSFERS["store"]("store", source, client, first, 1).send()
    return sent.bytes, sum(array.nbytes for array in client.arrays)


ADAPTERS = ["learner.lora.rank=64"]
APART = [*ADAPTERS, "learner.lora.export=adapter"]


@pytest.mark.parametrize("lora", [[], ADAPTERS])
@pytest.mark.parametrize("tied", ["true", "false"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sync_sends_the_bytes_that_the_plan_says(dtype: str, tied: str, lora: list[str]) -> None:
    shape = [f"model.shape.tie_embeddings={tied}", "model.shape.hidden_size=256"]
    config = settings(f"model.dtype={dtype}", *shape, *lora)
    sent, came = on_ranks(1, _sent, config)
    assert sent == plan(config).sync_bytes
    assert sent <= came < 1.001 * sent, "aligned"


def _written(config: RunConfig, folder: Path) -> None:
    worker = _worker(config)
    shards = worker._learner.shards
    for parameter in shards._parameters:  # moments exist from the first step on
        parameter.grad = parameter.detach().clone()
    shards.optimizer.step()
    worker.save(str(folder / "learner"))
    worker.export(str(folder / "model"), None, True, config.model.dtype)
    worker.write()


@pytest.mark.parametrize("lora", [[], ADAPTERS, APART])
def test_a_checkpoint_takes_the_bytes_that_the_plan_says(tmp_path: Path, lora: list[str]) -> None:
    config = settings("model.dtype=bfloat16", "model.shape.hidden_size=256", *lora)
    on_ranks(1, _written, config, tmp_path)
    files = [*tmp_path.rglob("*.distcp"), *tmp_path.rglob("*.safetensors")]
    written = sum(file.stat().st_size for file in files)
    planned = plan(config).checkpoint_bytes
    assert planned <= written < 1.05 * planned, "headers"
