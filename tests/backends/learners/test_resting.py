"""A learner at rest: its optimizer's state is elsewhere, and nothing that it computes or saves is another.

Covered: one rank on the CPU, where the copy is in plain memory. Not covered: the memory of GPUs, and pinned copies.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from carerl.backends.learners.loop import LearnerLoop
from carerl.backends.learners.resting import RestingOptimizer
from tests.backends.learners.ranks import alone
from tests.backends.learners.test_fsdp2 import FSDP2Shards, batch, learner, parts

pytestmark = pytest.mark.usefixtures("group")
ROWS = batch(torch.float32)


@pytest.fixture
def group() -> Any:
    with alone():
        yield


def made(offload: bool) -> LearnerLoop:
    found = learner(FSDP2Shards, torch.float32, "score", 4, 64)
    if offload:
        found.shards._resting = RestingOptimizer(found.shards.optimizer, torch.device("cpu"))  # type: ignore[attr-defined]
    return found


def update(found: LearnerLoop) -> dict[str, float]:
    return found.update(ROWS, parts(ROWS), 1e-2)


def state(found: LearnerLoop) -> dict[str, Tensor]:
    """Weights and moments, whole."""
    shards: Any = found.shards
    named = {name: p.full_tensor().detach().clone() for name, p in shards.policy.named_parameters()}
    for number, moments in enumerate(shards.optimizer.state.values()):
        named |= {f"{number} {name}": value.to_local().clone() for name, value in moments.items() if name != "step"}
    return named


def moments(shards: Any) -> list[Tensor]:
    """This rank's part of each moment."""
    found = [value for state in shards.optimizer.state.values() for value in state.values()]
    return [value._local_tensor for value in found if isinstance(value, DTensor)]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_updates_around_a_rest_are_those_without_one() -> None:
    """Before the first step an optimizer has no state, and rests all the same."""
    resting, awake = made(True), made(False)
    metrics = []
    for _ in range(3):
        resting.rest()
        resting.log_probs(ROWS)
        resting.resume()
        metrics.append((update(resting), update(awake)))
    assert all(one == other for one, other in metrics)
    assert equal(state(resting), state(awake)) and len(state(awake)) > 30


def test_a_rest_gives_the_memory_of_the_moments_up_and_uses_one_copy_of_them() -> None:
    found = made(True)
    update(found)
    shards: Any = found.shards
    held = [weakref.ref(local) for local in moments(shards)]
    assert len(held) == 2 * len(shards.optimizer.state) and all(ref() is not None for ref in held)
    found.rest()
    assert all(ref() is None for ref in held)
    places = [place.data_ptr() for place in shards._resting._host.values()]
    assert len(places) == len(held)
    found.resume()
    update(found)
    found.rest()
    assert [place.data_ptr() for place in shards._resting._host.values()] == places
    assert [local.data_ptr() for local in moments(shards)] == places


def test_a_checkpoint_of_a_learner_at_rest_is_that_of_one_at_work(tmp_path: Path) -> None:
    found = made(True)
    update(found)
    expected = state(found)
    found.rest()
    found.save(tmp_path / "resting")()
    restored = made(False)
    update(restored)  # so that it has a state to be replaced
    update(restored)
    restored.load(tmp_path / "resting")
    assert equal(state(restored), expected)
    found.resume()
    assert equal(state(found), expected)
