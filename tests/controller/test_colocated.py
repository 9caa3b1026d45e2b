"""Runs whose engine and rank take turns, in this process, beside the same runs in which they do not.

The engine is transformers', which drops its weights while it sleeps, on the CPU too. Not covered: GPUs, vLLM's own
sleep, and several pairs (``tests/e2e/test_two_nodes.py``).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor, equal

from carerl.config.load import load
from carerl.config.roles import reference_in_learner
from carerl.controller import launch
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.preparation import prepare
from carerl.controller.session import Result
from carerl.runs.jsonl import read_metrics
from tests.actors.in_process import crew_in_process
from tests.controller.rehearsal.test_rehearsal import base_model  # noqa: F401 (a fixture)
from tests.controller.test_beside import At

pytestmark = pytest.mark.slow  # whole runs, a minute and a half of them

WORDS = [
    "model.base_recipe=", "rollout.engine=hf", "prompts_per_step=4", "steps=2", "checkpoint.every=1",
    "tracking.rollouts_every=1", "sync.probe_every=1", "evaluation.every=1", "evaluation.at_start=true",
    "evaluation.questions=2", "evaluation.questions_between=2", "evaluation.samples=2", "evaluation.scored_samples=2",
    "tracking.wandb=off", "tracking.display=quiet",
]  # fmt: skip
RL = ["recipe=care_grpo_tiny", "algorithm.group_size=4", *WORDS]
WAYS = {
    "rl": RL,
    "adapters": [*RL, "learner.lora.rank=8", "learner.optimizer.lr=.03"],
    "finetune": ["recipe=sft_decision_tiny", *WORDS],
}
COLOCATED = "cluster.placement=colocated"
TURNS = ("sleep", "wake_weights", "wake_cache", "rest", "resume", "release")


def run(model: Path, place: Path, *words: str, stop_at: int = 0) -> tuple[Result, list[str]]:
    """A run, and all calls that its workers got. Without words the one that is there is gone on with. ``stop_at``: the
    step at which Ctrl-C is pressed."""
    config = load([*words, f"model.path={model}", f"run_dir={place}"] if words else [f"resume={place}"])
    colocated, calls = config.cluster.placement == "colocated", list[str]()
    display = At(lambda step: signal.raise_signal(signal.SIGINT) if step == stop_at else None)
    with (
        pytest.MonkeyPatch.context() as patch,
        crew_in_process(patch, colocated=colocated, within=reference_in_learner(config), calls=calls) as actors,
        StopFlag() as stop,
    ):
        result = launch.run(config, actors, str(model), display, stop, prepare(config, str(model)))
    return result, calls


@pytest.fixture(scope="module")
def shared(
    base_model: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Result, list[str]]]:
    """A whole run of each way, in which engine and rank take turns."""
    place = tmp_path_factory.mktemp("shared")
    return cache(lambda way: run(base_model, place / way, *WAYS[way], COLOCATED))


def measured(result: Result) -> list[dict[str, Any]]:
    """All that the run logged, without times and sizes of processes."""
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "system/"))} for row in rows]


def exported(result: Result) -> dict[str, Tensor]:
    return load_file(result.run_dir / "checkpoints/latest/model/model.safetensors")


@pytest.mark.parametrize("way", WAYS)
def test_taking_turns_changes_nothing_that_is_computed_and_gpus_apart_take_none(
    tmp_path: Path,
    base_model: Path,  # noqa: F811
    shared: Any,
    way: str,
) -> None:
    apart, plain_calls = run(base_model, tmp_path / "apart", *WAYS[way])
    taking_turns, calls = shared(way)
    assert apart.status == taking_turns.status == "completed"
    assert measured(taking_turns) == measured(apart) and len(measured(apart)) >= 5
    one, other = exported(apart), exported(taking_turns)
    assert all(equal(one[name], other[name]) for name in one | other)
    assert not [call for call in plain_calls if call.endswith(TURNS)]
    without = [call for call in calls if not call.endswith((*TURNS, "load"))]
    assert without == [call for call in plain_calls if not call.endswith("load")]


def test_adapters_reach_an_engine_that_slept(base_model: Path, shared: Any) -> None:  # noqa: F811
    """Each probe compares it with the learner, whose adapters have moved."""
    rows = measured(shared("adapters")[0])
    probes = {row["step"]: row["sync/probe_max"] for row in rows if "sync/probe_max" in row}
    assert list(probes) == [0, 1, 2] and 0 < max(probes.values()) < 1e-5
    first, *later = [row["eval/kl_per_sequence"] for row in rows if "eval/kl_per_sequence" in row]
    assert first == pytest.approx(0, abs=1e-6) and len(later) == 2 and min(later) > 1e-2
    before, after = load_file(base_model / "model.safetensors"), exported(shared("adapters")[0])
    changed = {name for name in before if not equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}


@pytest.mark.parametrize("way", ["rl", "adapters"])
def test_a_run_that_takes_turns_goes_on_as_one_never_stopped(
    tmp_path: Path,
    base_model: Path,  # noqa: F811
    shared: Any,
    way: str,
) -> None:
    """It goes on with an engine and a rank that are built anew."""
    whole = shared(way)[0]
    stopped, _ = run(base_model, tmp_path / "run", *WAYS[way], COLOCATED, stop_at=1)
    assert (stopped.status, stopped.step) == ("interrupted", 1) and len(measured(stopped)) < len(measured(whole))
    resumed, calls = run(base_model, tmp_path / "run")
    assert (resumed.status, resumed.step) == ("completed", 2) and "rollout 0: sleep" in calls
    assert measured(resumed) == measured(whole)
    one, other = exported(whole), exported(resumed)
    assert all(equal(one[name], other[name]) for name in one | other)


def test_each_step_is_a_turn_of_the_rank_between_two_of_the_engine(shared: Any) -> None:
    """Scores for the rollout table are computed while the engine sleeps, those of probe and evaluation beside it."""
    _, calls = shared("rl")
    shown = ("submit", "log_probs", "update", "send", "accept", *TURNS)
    order = [method for method in (call.partition(": ")[2] for call in calls) if method in shown]
    order = [call for k, call in enumerate(order) if call != order[k - 1] or k == 0]
    wakes = ["rest", "wake_weights", "send", "accept", "wake_cache", "submit", "log_probs", "submit", "log_probs"]
    turn = ["submit", "sleep", "resume", "log_probs", "update", *wakes]
    assert order == ["release", *wakes, *turn, *turn]
    loads = [call for call in calls if call.endswith(": load")]
    assert loads[0] == "rollout 0: load", "an engine is built while nothing else is on its GPU"
