"""What is new costs one file: a regularizer, an algorithm, a task, a metric and a loop, all added by a plugin,
train."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.actors.crew import EvaluationCrew, crew_of
from carerl.actors.health.asking import Asker
from carerl.algorithms import ALGORITHMS
from carerl.config.kinds import KINDS
from carerl.config.load import load
from carerl.config.tables import CHOICES
from carerl.controller import launch
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.loops import LOOPS
from carerl.controller.preparation import prepare
from carerl.controller.session import Result
from carerl.errors import ConfigError
from carerl.metrics import METRICS
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_evaluations
from carerl.tracking.display import QuietDisplay
from tests.actors.in_process import crew_in_process
from tests.actors.local import Local
from tests.controller.rehearsal.test_rehearsal import base_model  # noqa: F401 (a fixture)

PLUGIN = """
    from dataclasses import dataclass
    from functools import partial
    from typing import Annotated

    import torch

    from carerl.algorithms import ALGORITHMS, Algorithm, AlgorithmConfig, AlgorithmEntry
    from carerl.algorithms.aggregation import sequence_mean
    from carerl.algorithms.surrogate import clipped
    from carerl.config.kinds import KINDS, Kind
    from carerl.controller.evaluation import evaluate_if_due
    from carerl.controller.loops import LOOPS, Loop, rl
    from carerl.controller.loops.step import Step
    from carerl.metrics import At, Metric
    from carerl.regularizers import REGULARIZERS, PenaltyConfig, RegularizerEntry
    from carerl.settings import above
    from carerl.tasks import TASKS, TaskEntry, TinyConfig, TinyTask

    # a regularizer: half the squared gap, whose gradient is the gap itself
    @dataclass
    class HalfSquareConfig(PenaltyConfig):
        name: str = "half_square"
        scale: Annotated[float, above(0)] = 1.0

    @dataclass(frozen=True)
    class HalfSquare:
        scale: float

        def coefficient(self, lp, lr):
            return (self.scale * (lp - lr)).detach()

        def value(self, lp, lr):
            return (self.scale * (lp - lr) ** 2 / 2).detach()

        def exact(self, logp_NV, logr_NV):
            return (logp_NV.exp() * self.scale * (logp_NV - logr_NV) ** 2 / 2).sum(-1)

        def log_ratio(self, lp, lr):
            return self.scale * (lp - lr)

    REGULARIZERS["half_square"] = RegularizerEntry(
        HalfSquareConfig, lambda config: HalfSquare(config.scale), "half the squared log-ratio"
    )

    # an algorithm: the reward less one half, without any baseline
    @dataclass
    class PlainConfig(AlgorithmConfig):
        name: str = "plain"

    def plain(config):
        surrogate = partial(clipped, low=config.clip_low, high=config.clip_high)
        return Algorithm.of(config, lambda rewards_PG: rewards_PG - 0.5, surrogate, sequence_mean)

    ALGORITHMS["plain"] = AlgorithmEntry(PlainConfig, plain, "reward less one half")

    # a task with a metric of its own
    @dataclass
    class EchoConfig(TinyConfig):
        name: str = "echo"

    class Echo(TinyTask):
        def evaluate(self, results):
            found = super().evaluate(results)
            asked = sum(len(groups) for groups in results.values())
            found.metrics["eval/asked"] = float(asked)
            return found

    TASKS["echo"] = TaskEntry(
        EchoConfig, Echo, "the tiny world, counted",
        metrics=(Metric("eval/asked", "1", "questions that were asked", shown={"summary": At(100)}),),
    )

    # a loop: samples and plans, and leaves the weights alone
    def look(context, start):
        algorithm = ALGORITHMS[context.config.algorithm.name].build(context.config.algorithm)
        for number in range(start + 1, context.config.steps + 1):
            step = Step(context, algorithm, number)
            rollouts = step.sample()
            planned = step.plan(rollouts)
            step.log({"train/empty_minibatches": planned.empty}, rollouts, planned)
            evaluate_if_due(context, number)
            step.keep()
        return context.config.steps

    LOOPS["look"] = Loop(look, rl.begin)
    KINDS["look"] = Kind(KINDS["rl"].roles, KINDS["rl"].needs, "samples, and trains nothing")
"""
TABLES: tuple[Any, ...] = (*CHOICES.values(), ALGORITHMS, KINDS, LOOPS, METRICS)
WORDS = [
    "recipe=care_grpo_tiny", "plugins=[my_additions]", "model.base_recipe=", "rollout.engine=hf", "steps=2",
    "prompts_per_step=4", "evaluation.questions=2", "evaluation.samples=4", "evaluation.every=0", "tracking.wandb=off",
    "tracking.display=quiet", "tracking.rollouts_every=0",
]  # fmt: skip


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_additions.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = [dict(table) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        for name in set(table) - set(entries):
            dict.pop(table, name)
    sys.modules.pop("my_additions", None)


def run(monkeypatch: pytest.MonkeyPatch, place: Path, model: Path, *words: str) -> Result:
    config = load([*WORDS, f"model.path={model}", f"run_dir={place}", *words])
    with crew_in_process(monkeypatch) as actors:
        return launch.run(config, actors, str(model), QuietDisplay(), StopFlag(), prepare(config, str(model)))


def evaluations(result: Result, metric: str) -> dict[int, float]:
    """A metric of each evaluation, by step."""
    return {found["step"]: found["metrics"][metric] for found in read_evaluations(result.run_dir / "evaluations")}


def test_a_regularizer_an_algorithm_a_task_and_a_metric(
    plugin: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
) -> None:
    words = ["regularizer.name=half_square", "regularizer.estimator=full", "algorithm.name=plain", "task.name=echo"]
    result = run(monkeypatch, tmp_path / "run", base_model, *words, "learner.optimizer.lr=0.01")
    assert result.status == "completed" and result.step == 2
    first, second = [row for row in read_metrics(result.run_dir / "metrics.jsonl") if "train/loss" in row]
    assert first["regularizer/value"] < second["regularizer/value"], "the weights move, and the penalty sees it"
    asked = evaluations(result, "eval/asked")
    assert asked[0] == asked[2] > 0 and "eval/asked" in METRICS
    assert "eval/asked" in (result.run_dir / "report.html").read_text()


def test_a_loop(
    plugin: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
) -> None:
    result = run(monkeypatch, tmp_path / "run", base_model, "kind=look")
    assert result.status == "completed" and result.step == 2
    rows = [row for row in read_metrics(result.run_dir / "metrics.jsonl") if "rollout/reward" in row]
    assert len(rows) == 2 and not any("train/loss" in row for row in rows), "it samples, and trains nothing"
    accuracy = evaluations(result, "eval/accuracy")
    assert accuracy[0] == accuracy[2] == result.base["eval/accuracy"], "the same weights, the same seed"


def test_a_kind_of_run_may_start_other_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner with a reference, as for preference pairs; engines alone; a learner with engines and graders."""
    made = load(["recipe=care_grpo_tiny"])

    def crew_with(*roles: str) -> Any:
        return crew_of({role: [Local(SimpleNamespace())] for role in roles}, made, Asker())

    monkeypatch.setattr("carerl.actors.crew.Learner", lambda actors, gpus, ask: SimpleNamespace())
    pairs = crew_with("learner", "reference")
    assert (pairs.names, set(pairs.members)) == (["learner 0", "reference 0"], {"learner", "reference"})
    with pytest.raises(AttributeError, match="this kind of run has no engines: it has learner, reference"):
        _ = pairs.engines
    alone = crew_with("rollout")
    assert alone.handles == (alone.engines,)
    assert set(crew_with("learner", "rollout", "grading").members) == {"learner", "engines", "graders"}
    assert type(crew_with("rollout", "grading")) is EvaluationCrew


def test_a_kind_without_a_loop_is_refused_before_anything_starts(plugin: None, tmp_path: Path) -> None:
    config = load([*WORDS, "kind=look", "model.path=x", f"run_dir={tmp_path / 'run'}", "dry_run=true"])
    dict.pop(LOOPS, "look")
    with pytest.raises(ConfigError, match="no loop carries it out"):
        launch.launch(config)
    assert not (tmp_path / "run").exists()
