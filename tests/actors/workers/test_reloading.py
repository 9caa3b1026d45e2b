"""A learner that is loaded again, as a sweep does: of the one before nothing stays in memory.

Covered: FSDP2, DeepSpeed's ZeRO 1, 2 and 3, on two gloo ranks, each after a step, a sync's opening and a copy for a
checkpoint; a copy that is written after the next load. Not covered: the memory of GPUs.
"""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
import torch.distributed as dist
from torch import Tensor

from carerl.actors.workers.learner import LearnerWorker
from carerl.backends.learners.totals import gather_json
from carerl.config.load import load
from tests.actors.local import Local
from tests.backends.learners.ranks import on_ranks
from tests.backends.learners.test_fsdp2 import batch, parts

pytestmark = pytest.mark.slow  # two ranks start, which takes half a minute

WAYS = {
    "fsdp2": ["learner.backend=fsdp2"],
    **{f"zero {stage}": ["learner.backend=deepspeed", f"learner.zero_stage={stage}"] for stage in (1, 2, 3)},
}
RECIPE = ["recipe=care_grpo_tiny", "rollout.engine=hf", "learner.threads=1", "regularizer.name=none"]


def alive() -> int:
    """Bytes of all tensors that Python's collector knows. Those that are views of one storage count once."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) in (Tensor, torch.nn.Parameter)]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def loaded_three_times(way: str, folder: Path) -> dict[str, Any]:
    worker, config, rows = LearnerWorker(), load([*RECIPE, *WAYS[way]]), batch(torch.float32)
    rows = rows.with_streams(ref_hidden=None)
    before, after = alive(), []
    for _ in range(3):
        worker.load(config, "")
        after.append(alive() - before)
        worker.open_transfer("store", [Local(SimpleNamespace(init_weight_transfer_engine=lambda info: None))], 1)
        worker.update(1e-3, None, False, parts(rows, ((0, 1, 2, 3),)), "", rows)
        worker.save(str(folder / way / "left"))
    worker.save(str(folder / way / "at once"))
    left, at_once = worker._unwritten  # as the thread that writes takes them
    at_once()
    del at_once
    worker.load(config, "")
    left()
    dist.barrier()  # the other rank writes its file into the same directories
    return {"bytes": after, "same": same_files(folder / way / "left", folder / way / "at once")}


def same_files(one: Path, other: Path) -> bool:
    """Whether two directories have files of the same names and bytes, but for an index, which names the directory."""
    first, second = (
        {path.name: path.read_bytes() for path in sorted(place.iterdir()) if path.name != ".metadata"}
        for place in (one, other)
    )
    return bool(first) and first == second


def all_that_two_ranks_are_asked(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda values, timeout=None: values)
        return {way: gather_json(loaded_three_times(way, folder), torch.device("cpu")) for way in WAYS}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    answers: dict[str, Any] = on_ranks(2, all_that_two_ranks_are_asked, tmp_path_factory.mktemp("checkpoints"))
    return answers


@pytest.mark.parametrize("way", WAYS)
def test_a_learner_that_is_loaded_again_takes_the_place_of_the_one_before(found: Any, way: str) -> None:
    for rank in found[way]:
        first, second, third = rank["bytes"]
        assert first > 0 and max(second, third) < first + 100, "constants of a few bytes, and nothing of the one before"


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_for_a_checkpoint_is_whole_after_the_next_load(found: Any, way: str) -> None:
    assert all(rank["same"] for rank in found[way])
