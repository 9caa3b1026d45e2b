"""A run that trains adapters, with real actors, vLLM rollouts, probes and checkpoints, and the model that it leaves.

Covered: parity after every sync, a run stopped and gone on with, also where engine and rank take turns, what is
exported and evaluated, and that it learns. Not covered: DeepSpeed and several ranks
(``tests/backends/learners/test_adapters.py``), what sleep frees.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import TrainingCrew, crew
from carerl.backends.models import load_model
from carerl.config.evaluate import evaluation_config
from carerl.config.load import load
from carerl.config.plan.plan import plan
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.models import base_model
from carerl.controller.models.merged import merged_model
from carerl.controller.session import Result
from carerl.tracking.display import QuietDisplay
from tests.e2e.test_pipeline import InterruptAt, check_goes_on, check_same, final_weights, rows, small, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ADAPTERS = ("learner.lora.rank=8", "learner.optimizer.lr=0.01")


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    with cluster():
        yield


@pytest.fixture(scope="module")
def actors(on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingCrew, str]]:
    config = small(tmp_path_factory.mktemp("unused"), *ADAPTERS)
    with crew(config) as found:
        yield found, base_model.model_directory(config, found.learner, QuietDisplay(), StopFlag())


@pytest.fixture(scope="module")
def whole(actors: tuple[TrainingCrew, str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    return start(actors, small(tmp_path_factory.mktemp("runs"), *ADAPTERS))


def test_engines_have_the_adapters_after_every_sync(
    whole: Result, actors: tuple[TrainingCrew, str], tmp_path: Path
) -> None:
    assert (whole.status, whole.step, whole.exit_code) == ("completed", 4, 0)
    found = rows(whole.run_dir)
    probes = {row["step"]: row["sync/probe_max"] for row in found if "sync/probe_max" in row}
    assert list(probes) == [0, 2, 4] and 0 < max(probes.values()) < 1e-5
    sent = {row["sync/gib"] for row in found if "sync/gib" in row}
    assert sent == {plan(small(tmp_path, *ADAPTERS)).sync_bytes / 2**30}
    assert whole.final["eval/kl_per_sequence"] > 1e-4
    first = next(row for row in found if "regularizer/reverse_kl" in row)
    assert first["regularizer/reverse_kl"] < 1e-3, "the first minibatch is at the reference, the second a step away"


@pytest.mark.parametrize("at", [2, 3])
def test_a_run_stopped_and_gone_on_with_equals_one_never_stopped(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path, at: int
) -> None:
    check_goes_on(actors, small(tmp_path, *ADAPTERS), whole, at)


def test_the_exported_models_differ_from_the_base_in_adapted_layers_alone(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path
) -> None:
    base, merged = load_file(f"{actors[1]}/model.safetensors"), final_weights(whole.run_dir)
    changed = {name for name in base if not base[name].equal(merged[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    apart = start(actors, small(tmp_path, *ADAPTERS, "learner.lora.export=adapter"))
    assert rows(apart.run_dir) == rows(whole.run_dir)
    from peft import AutoPeftModelForCausalLM

    evaluated = evaluation_config([f"model={apart.run_dir}"], merge=merged_model).model.path
    found = load_file(f"{evaluated}/model.safetensors")
    assert all(merged[name].equal(found[name]) for name in merged | found), "as an evaluation puts them together"
    model = AutoPeftModelForCausalLM.from_pretrained(apart.run_dir / "checkpoints" / "latest" / "model")
    ids = torch.tensor([[10, 11, 40, 41, 12]])
    with torch.no_grad():
        one, other = (
            model(ids).logits,
            load_model(str(whole.run_dir / "checkpoints/latest/model"), "float32")(ids).logits,
        )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_vllm_and_a_rank_that_take_turns_train_the_same_adapters_and_go_on_with_them(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path
) -> None:
    words = [*ADAPTERS, "cluster.placement=colocated"]
    with crew(small(tmp_path / "unused", *words)) as sharing:
        shared = start((sharing, actors[1]), small(tmp_path / "whole", *words))
        stopped = start((sharing, actors[1]), small(tmp_path / "stopped", *words), InterruptAt(2))
        assert (stopped.status, stopped.step) == ("interrupted", 2)
        resumed = start((sharing, actors[1]), load([f"resume={stopped.run_dir}"]))
    check_same(shared, whole)
    check_same(resumed, whole)


@pytest.mark.long
def test_adapters_learn(actors: tuple[TrainingCrew, str], tmp_path: Path) -> None:
    """The reward rises, and the exact divergence from the base, which the adapters' absence gives, with it."""
    words = ["steps=40", "prompts_per_step=32", "algorithm.group_size=8", "checkpoint.every=0", "evaluation.every=0"]
    config = small(tmp_path, *ADAPTERS, *words, "model.base_overrides=[]", "learner.micro_batch_rows=128")
    model_dir = base_model.model_directory(config, actors[0].learner, QuietDisplay(), StopFlag())
    found = rows(start((actors[0], model_dir), config).run_dir)
    reward = [row["rollout/reward"] for row in found if "rollout/reward" in row]
    assert len(reward) == 40
    assert sum(reward[-5:]) / 5 > sum(reward[:5]) / 5 + 0.1
    kl = [row["regularizer/reverse_kl"] for row in found if "regularizer/reverse_kl" in row]
    assert kl[-1] > 10 * kl[0]
