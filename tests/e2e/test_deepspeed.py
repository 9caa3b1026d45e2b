"""A run whose learner is DeepSpeed's, stage 3 on two ranks, with real actors, vLLM rollouts, probes and checkpoints.

Covered: parity after every sync, a run stopped and gone on with, a run that goes on with the other backend, and that
both backends make the same first step. Not covered: stages 1 and 2 (``tests/backends/learners/test_sharding.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import TrainingCrew, crew
from carerl.config.load import load
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.models import base_model
from carerl.controller.session import Result
from carerl.tracking.display import QuietDisplay
from tests.e2e.test_pipeline import InterruptAt, check_goes_on, rows, small, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEEPSPEED = ("learner.backend=deepspeed", "learner.zero_stage=3", "learner.ranks=2", "learner.cpus_per_rank=0.2")


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingCrew, str]]:
    config = small(tmp_path_factory.mktemp("unused"), *DEEPSPEED)
    with cluster(), crew(config) as found:
        yield found, base_model.model_directory(config, found.learner, QuietDisplay(), StopFlag())


@pytest.fixture(scope="module")
def whole(actors: tuple[TrainingCrew, str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    return start(actors, small(tmp_path_factory.mktemp("runs"), *DEEPSPEED))


def test_engines_have_the_learners_weights_after_every_sync(whole: Result) -> None:
    """Which stage 3 gathers from its ranks. Limits of 1e-5 nats would end the run."""
    assert (whole.status, whole.step, whole.exit_code) == ("completed", 4, 0)
    probes = {row["step"]: row["sync/probe_max"] for row in rows(whole.run_dir) if "sync/probe_max" in row}
    assert list(probes) == [0, 2, 4] and 0 < max(probes.values()) < 1e-5
    assert whole.final["eval/kl_per_sequence"] > 1e-4


@pytest.mark.parametrize("at", [2, 3])
def test_a_run_stopped_and_gone_on_with_equals_one_never_stopped(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path, at: int
) -> None:
    check_goes_on(actors, small(tmp_path, *DEEPSPEED), whole, at)


class Warned(QuietDisplay):
    """Keeps what a person is warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(text)


def test_the_other_backend_makes_the_same_first_step_and_goes_on_with_the_weights(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path
) -> None:
    others = ("learner.backend=fsdp2", "learner.zero_stage=2")
    stopped = start(actors, small(tmp_path, *DEEPSPEED, *others), InterruptAt(2))

    def step_one(result: Result) -> dict[str, Any]:
        return next(row for row in rows(result.run_dir) if row["step"] == 1)

    mine, theirs = step_one(whole), step_one(stopped)
    for name in ("train/loss", "train/grad_norm", "rollout/mismatch_mean"):
        assert mine[name] == pytest.approx(theirs[name], rel=1e-3), name
    display = Warned()
    resumed = start(actors, load([f"resume={stopped.run_dir}", *DEEPSPEED]), display)
    assert (resumed.status, resumed.step) == ("completed", 4)
    assert [text for text in display.said if "learner.backend=deepspeed starts afresh" in text]
