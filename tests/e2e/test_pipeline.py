"""The whole pipeline with its real parts: Ray actors, vLLM rollouts, FSDP2 learner, sync, evaluation, report.

One set of actors serves all runs here, as in a sweep. Covered: what a run leaves behind, the same seed giving the
same run, a run stopped by Ctrl-C and gone on with, parity after every sync, a weight update with a layer left out.
Not covered: the command line and a fresh cluster (``test_commands``), learning (the README's table).
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from safetensors.torch import load_file

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import TrainingCrew, crew
from carerl.backends.transfer.base import Sent
from carerl.config.load import load
from carerl.config.schema import RunConfig
from carerl.controller import weights
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.launch import run
from carerl.controller.models import base_model
from carerl.controller.session import Result
from carerl.runs import commit
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_evaluations, read_questions, read_rollouts
from carerl.tasks import TASKS
from carerl.tracking.display import QuietDisplay
from carerl.tracking.workspace import logged_names, references, sections
from carerl.types import Example, Sampling
from tests.backends.transfer.sending import deliver
from tests.metrics.declared import undeclared
from tests.tracking.wandb_log import history, of_kind, read_log

pytestmark = pytest.mark.timeout(600)  # the first test waits for the base model and for all actors

SMALL = [
    "seed=100", "steps=4", "prompts_per_step=8", "algorithm.group_size=4", "model.base_overrides=[steps=60]",
    "sync.probe_every=2", "sync.probe_mean_abort=1e-5", "sync.probe_q999_abort=1e-5", "checkpoint.every=2",
    "tracking.rollouts_every=2",
    "evaluation.every=2", "evaluation.questions=12", "evaluation.questions_between=6", "evaluation.samples=4",
    "tracking.display=quiet", "learner.micro_batch_rows=10", "learner.head_chunk_tokens=50",
    "task.validation_questions=10", "checkpoint.best=accuracy subject to ece <= 0.9",
]  # fmt: skip


def small(runs: Path, *words: str) -> RunConfig:
    return load(["recipe=care_grpo_tiny", *SMALL, f"runs_dir={runs}", *words])


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingCrew, str]]:
    config = small(tmp_path_factory.mktemp("unused"))
    with cluster(), crew(config) as found:
        yield found, base_model.model_directory(config, found.learner, QuietDisplay(), StopFlag())


def start(actors: tuple[TrainingCrew, str], config: RunConfig, display: Any = None) -> Result:
    display = display or QuietDisplay()
    with StopFlag() as stop:
        return run(config, actors[0], actors[1], display, stop)


@pytest.fixture(scope="module")
def whole(actors: tuple[TrainingCrew, str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    return start(actors, small(tmp_path_factory.mktemp("runs")))


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock and on the machine."""
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "system/"))} for row in found]


def final_weights(run_dir: Path) -> Mapping[str, Any]:
    return load_file(run_dir / "checkpoints" / "latest" / "model" / "model.safetensors")


def test_a_run_leaves_behind_what_it_promises(whole: Result) -> None:
    assert (whole.status, whole.step, whole.exit_code) == ("completed", 4, 0)
    found = {path.name for path in whole.run_dir.iterdir()}
    assert {"config.yaml", "versions.json", "metrics.jsonl", "summary.json", "report.html"} <= found
    probes = {row["step"]: row["sync/probe_max"] for row in rows(whole.run_dir) if "sync/probe_max" in row}
    assert list(probes) == [0, 2, 4] and max(probes.values()) < 1e-5
    first = rows(whole.run_dir)[0]
    assert 0 < first["sync/probe_mean"] < first["sync/probe_q999"] <= first["sync/probe_max"]
    train = [row for row in rows(whole.run_dir) if "train/loss" in row]
    assert [row["step"] for row in train] == [1, 2, 3, 4]
    for row in train:
        assert 0 < row["rollout/mismatch_mean"] < row["rollout/mismatch_q999"] <= row["rollout/mismatch_max"] < 1e-5
        assert row["rollout/effective_sample_size"] == pytest.approx(1.0, abs=1e-6)
        assert row["sync/version"] == row["step"]
        assert row["rollout/accuracy"] == row["rollout/reward"]
    assert [record["step"] for record in read_evaluations(whole.run_dir / "evaluations")] == [0, 2, 4]
    table = read_rollouts(whole.run_dir / "rollouts" / "step_000002.parquet")
    assert len(table) == 32
    assert {row["weight_version"] for row in table} == {1}  # the rollouts of step 2 come from the weights of step 1
    for row in table:  # scored under those weights, which a step has moved from the reference
        assert len(row["token_rkl"]) == len(row["token_entropy"]) == row["tokens"] == len(row["response_ids"])
    assert sum(sum(row["token_rkl"]) for row in table) > 0
    assert all(row["correct"] == (row["answer"] == row["gold"]) for row in table)
    assert whole.base["eval/kl_per_sequence"] == pytest.approx(0.0, abs=1e-6)
    assert whole.final["eval/kl_per_sequence"] > 1e-4
    assert undeclared({name for row in read_metrics(whole.run_dir / "metrics.jsonl") for name in row}) == []
    card = (whole.run_dir / "checkpoints" / "latest" / "model" / "README.md").read_text()
    assert "care_grpo_tiny, step 4" in card and f"| accuracy | {whole.final['eval/accuracy']:.4g} |" in card
    assert "http" not in (whole.run_dir / "report.html").read_text().replace("http://www.w3.org", "")


def test_the_best_model_by_validation_is_kept(actors: tuple[TrainingCrew, str], whole: Result) -> None:
    evaluations = {record["step"]: record["metrics"] for record in read_evaluations(whole.run_dir / "evaluations")}
    questions = {step: read_questions(whole.run_dir / "evaluations", step) for step in evaluations}
    for rows_ in questions.values():  # also where the other suites are asked in part
        assert sum(row["suite"] == "validation" for row in rows_) == 10
    accuracy = {step: metrics["eval/validation/accuracy"] for step, metrics in evaluations.items()}
    chosen = max(sorted(accuracy), key=lambda step: accuracy[step])
    kept = json.loads((whole.run_dir / "checkpoints" / "best" / "best.json").read_text())
    assert kept["step"] == chosen and kept["metrics"]["eval/validation/accuracy"] == accuracy[chosen]
    assert json.loads((whole.run_dir / "summary.json").read_text())["best"] == kept
    own = whole.run_dir / "checkpoints" / f"step_{chosen:06d}" / "model" if chosen else Path(actors[1])
    expected = load_file(own / "model.safetensors")
    for name, tensor in load_file(whole.run_dir / "checkpoints" / "best" / "model" / "model.safetensors").items():
        assert tensor.equal(expected[name]), name


def test_wandb_gets_what_the_run_logs_under_the_same_names_and_steps(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path
) -> None:
    """Stopped once and gone on with: one log, that of a run never stopped. The dashboard made for it asks for nothing
    that is not logged."""
    words = ("tracking.wandb=offline", "tracking.wandb_rollout_rows=4", "tracking.wandb_checkpoint=true")
    stopped = start(actors, small(tmp_path, *words), InterruptAt(3))
    resumed = start(actors, load([f"resume={stopped.run_dir}"]))
    assert rows(resumed.run_dir) == rows(whole.run_dir)
    (log,) = resumed.run_dir.glob("wandb/offline-run-*/run-*.wandb")
    records = read_log(log)
    logged = history(records)
    assert list(logged) == [0, 1, 2, 3, 4]
    for row in read_metrics(resumed.run_dir / "metrics.jsonl"):
        assert row.items() <= logged[int(row["step"])].items()
    assert [step for step, row in logged.items() if "rollout/table/path" in row] == [2, 4]
    assert [step for step, row in logged.items() if "calibration/reliability/facts/path" in row] == [0, 2, 4]
    assert {artifact.type for artifact in of_kind(records, "artifact")} >= {"code", "recipe", "model"}
    names, pictures = logged_names([resumed.run_dir])
    everything = {name.partition("/path")[0] for row in logged.values() for name in row}
    shown = {name for section in sections(names, pictures) for panel in section.panels for name in references(panel)}
    assert len(shown) > 30 and shown <= everything
    assert {"regularizer/coefficient_bin_00_below_m3", "regularizer/coefficient_bin_12_from_3"} <= shown


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path) -> None:
    again = start(actors, small(tmp_path))
    assert rows(again.run_dir) == rows(whole.run_dir)
    other = start(actors, small(tmp_path, "rollout.temperature=1.1"))
    assert rows(other.run_dir) != rows(whole.run_dir)


class InterruptAt(QuietDisplay):
    """Presses Ctrl-C once a step is shown."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.at:
            signal.raise_signal(signal.SIGINT)


def check_same(found: Result, whole: Result) -> None:
    """Two runs logged the same, and trained the same weights bit for bit."""
    assert (found.status, found.step) == ("completed", whole.step)
    assert rows(found.run_dir) == rows(whole.run_dir)
    assert found.base == whole.base and found.final == whole.final
    weights, expected = final_weights(found.run_dir), final_weights(whole.run_dir)
    assert weights.keys() == expected.keys()
    assert [name for name in weights if not weights[name].equal(expected[name])] == []


def check_goes_on(actors: tuple[TrainingCrew, str], config: RunConfig, whole: Result, at: int) -> None:
    """A run stopped after step ``at`` and gone on with is the whole one."""
    stopped = start(actors, config, InterruptAt(at))
    assert (stopped.status, stopped.step, stopped.exit_code) == ("interrupted", at, 130)
    check_same(start(actors, load([f"resume={stopped.run_dir}"])), whole)


@pytest.mark.parametrize("at", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_pitfall_18_a_run_stopped_and_gone_on_with_equals_one_never_stopped(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path, at: int
) -> None:
    check_goes_on(actors, small(tmp_path), whole, at)


class OpenAt(QuietDisplay):
    """Lists the checkpoints as each step is shown, and opens a gate at the last one."""

    def __init__(self, gate: Path, checkpoints: Path) -> None:
        self.gate, self.checkpoints = gate, checkpoints
        self.listed: list[list[str]] = []

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.listed.append(sorted(path.name for path in self.checkpoints.glob("*")))
        if step == 4:
            self.gate.touch()


def test_the_learner_trains_while_another_thread_of_it_writes(actors: tuple[TrainingCrew, str], tmp_path: Path) -> None:
    """The disk of the learner is slow: what it has written is there once somebody opens the gate."""
    gate, run_dir = tmp_path / "gate", tmp_path / "run"
    learner = actors[0].actors[actors[0].names.index("learner 0")]

    def slow(worker: Any, gate: str) -> None:
        real = os.fsync

        def fsync(file: int) -> None:
            deadline = time.monotonic() + 120
            while threading.get_ident() != worker._thread and not os.path.exists(gate):
                assert time.monotonic() < deadline, "nobody opened the gate"
                time.sleep(0.02)
            real(file)

        os.fsync, worker.fast = fsync, real

    def fast(worker: Any) -> None:
        os.fsync = worker.fast

    ray.get(learner.__ray_call__.remote(slow, str(gate)))
    display = OpenAt(gate, run_dir / "checkpoints")
    words = ("evaluation.every=0", "evaluation.at_start=false", "evaluation.at_end=false", "checkpoint.best=")
    try:
        found = start(actors, small(tmp_path, f"run_dir={run_dir}", *words), display)
    finally:
        ray.get(learner.__ray_call__.remote(fast))
    assert found.status == "completed"
    assert display.listed == [[], [], [".step_000002.partial"], [".step_000002.partial"]]
    for step in (2, 4):
        assert commit.verify(run_dir / "checkpoints" / f"step_{step:06d}") is None


class InterruptEvaluation(QuietDisplay):
    """Presses Ctrl-C as the n-th evaluation begins."""

    def __init__(self, number: int) -> None:
        self.left = number

    def stage(self, name: str) -> None:
        self.left -= name == "evaluate"
        if name == "evaluate" and self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "step"), [(2, 2), (3, 4)])
def test_pitfall_18_an_evaluation_that_a_stop_cut_short_is_made_when_the_run_goes_on(
    actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path, number: int, step: int
) -> None:
    stopped = start(actors, small(tmp_path), InterruptEvaluation(number))
    assert (stopped.status, stopped.step, stopped.exit_code) == ("interrupted", step, 130)
    assert step not in {record["step"] for record in read_evaluations(stopped.run_dir / "evaluations")}
    resumed = start(actors, load([f"resume={stopped.run_dir}"]))
    assert (resumed.status, resumed.step) == ("completed", 4)
    assert rows(resumed.run_dir) == rows(whole.run_dir)
    assert resumed.final == whole.final


def test_a_stop_before_the_first_step_trains_nothing(actors: tuple[TrainingCrew, str], tmp_path: Path) -> None:
    stopped = start(actors, small(tmp_path), InterruptEvaluation(1))
    assert (stopped.status, stopped.step, stopped.exit_code) == ("interrupted", 0, 130)
    assert not (stopped.run_dir / "checkpoints" / "latest").exists()


@pytest.mark.slow
def test_pitfall_16_and_18_draws_and_adapted_strengths_are_counted_and_gone_on_with(
    actors: tuple[TrainingCrew, str], tmp_path: Path
) -> None:
    """Everything that the loop carries from step to step moves here: refills, beta and the entropy bonus."""
    words = [
        "recipe=care_dapo_tiny",
        *SMALL,
        f"runs_dir={tmp_path}",
        "algorithm.max_draws=5",
        "tracking.rollouts_every=1",
    ]
    words += ["regularizer.target_kl=.001", "algorithm.entropy_target=3", "algorithm.entropy_step=.01"]
    whole = start(actors, load(words))
    train = [row for row in rows(whole.run_dir) if "train/loss" in row]
    tables = [read_rollouts(whole.run_dir / "rollouts" / f"step_{step:06d}.parquet") for step in (1, 2, 3, 4)]
    drawn = [sample["example_id"] for table in tables for sample in table if sample["sample"] == 0]
    assert drawn == [f"train/{8 + k}" for k in range(len(drawn))], "every prompt once, none left out"
    for row, table in zip(train, tables, strict=True):
        groups: dict[str, list[dict[str, Any]]] = {}
        for sample in table:
            groups.setdefault(sample["example_id"], []).append(sample)
        mixed = [k for k, group in groups.items() if 0 < sum(sample["correct"] for sample in group) < 4]
        trained = [k for k, group in groups.items() if group[0]["trained"]]
        assert row["rollout/groups"] == len(groups) <= 40
        assert row["rollout/missing_groups"] == max(0, 8 - len(mixed))
        assert trained == mixed[:8]
        assert row["rollout/generated_tokens"] == sum(sample["tokens"] for sample in table)
        assert row["rollout/tokens"] == sum(sample["tokens"] for sample in table if sample["trained"])
        assert row["train/entropy_right"] != row["train/entropy_wrong"]
    assert len(drawn) > 4 * 8, "some groups were replaced, else this test shows nothing"
    assert [row["train/entropy_bonus"] for row in train] == pytest.approx([0, 0.01, 0.02, 0.03])
    assert all(a["regularizer/beta"] != b["regularizer/beta"] for a, b in itertools.pairwise(train))
    stopped = start(actors, load([*words, f"run_dir={tmp_path / 'stopped'}"]), InterruptAt(2))
    resumed = start(actors, load([f"resume={stopped.run_dir}"]))
    assert (resumed.status, resumed.step) == ("completed", 4)
    assert rows(resumed.run_dir) == rows(whole.run_dir)
    expected = final_weights(whole.run_dir)
    assert all(tensor.equal(expected[name]) for name, tensor in final_weights(resumed.run_dir).items())


@pytest.mark.slow
def test_pitfall_18_decisions_are_gone_on_with(actors: tuple[TrainingCrew, str], tmp_path: Path) -> None:
    """Their golds are drawn, the reward is for the likeliest option, and norms are measured in every second step."""
    words = ["recipe=calibration_aware_tiny", *SMALL, f"runs_dir={tmp_path}", "tracking.part_norms_every=2"]
    whole = start(actors, load(words))
    train = [row for row in rows(whole.run_dir) if "train/loss" in row]
    assert all(0 < row["decision/found"] <= 1 and row["train/ce_loss"] > 0 for row in train)
    assert any(row["decision/unlikely"] > 0 and row["rollout/rewarded"] != row["rollout/accuracy"] for row in train)
    measured = {row["step"]: row["train/grad_norm_ce"] for row in train if "train/grad_norm_ce" in row}
    assert list(measured) == [2, 4] and min(measured.values()) > 0
    assert undeclared({name for row in rows(whole.run_dir) for name in row}) == []
    stopped = start(actors, load([*words, f"run_dir={tmp_path / 'stopped'}"]), InterruptAt(1))
    resumed = start(actors, load([f"resume={stopped.run_dir}"]))
    assert (resumed.status, resumed.step) == ("completed", 4)
    assert rows(resumed.run_dir) == rows(whole.run_dir) and resumed.final == whole.final
    expected = final_weights(whole.run_dir)
    assert all(tensor.equal(expected[name]) for name, tensor in final_weights(resumed.run_dir).items())
    unmeasured = start(actors, load([*words, "tracking.part_norms_every=0", f"run_dir={tmp_path / 'unmeasured'}"]))
    assert all(tensor.equal(expected[name]) for name, tensor in final_weights(unmeasured.run_dir).items())


@pytest.mark.slow
def test_without_a_penalty_the_reference_is_asked_now_and_then(
    actors: tuple[TrainingCrew, str], tmp_path: Path
) -> None:
    found = {}
    for every in (2, 0):
        words = ["recipe=none_grpo_tiny", *SMALL, f"runs_dir={tmp_path}", f"reference.report_every={every}"]
        found[every] = rows(start(actors, load(words)).run_dir)
    reported = [row["step"] for row in found[2] if "regularizer/reverse_kl" in row]
    assert reported == [1, 2, 4]
    assert not [row for row in found[0] if "regularizer/reverse_kl" in row]
    losses = [[row["train/loss"] for row in run_rows if "train/loss" in row] for run_rows in found.values()]
    assert losses[0] == losses[1], "a report changes nothing"


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(actors: tuple[TrainingCrew, str], whole: Result, tmp_path: Path) -> None:
    stopped = start(actors, small(tmp_path), InterruptAt(3))
    newest = (stopped.run_dir / "checkpoints" / "latest").resolve()
    shard = next(path for path in newest.rglob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-10])
    said: list[str] = []
    _, state = commit.latest(stopped.run_dir / "checkpoints", said.append)
    assert state["step"] == 2 and "checksum" in said[0]
    resumed = start(actors, load([f"resume={stopped.run_dir}"]))
    assert rows(resumed.run_dir) == rows(whole.run_dir)


def accept(found: TrainingCrew, sent: Sent, version: int) -> None:
    """Has the engines take what was delivered for the weights of a version."""
    ray.get([actor.accept.remote(sent, version) for actor in found.engines._actors])
    found.engines.version = version


def test_pitfall_14_the_probe_fails_when_a_layer_is_left_out(actors: tuple[TrainingCrew, str], tmp_path: Path) -> None:
    """The learner's weights of one layer never reach the engine; everything else does."""
    found, model_dir = actors
    config = small(tmp_path)
    found.load(config, model_dir)
    trained = start(actors, small(tmp_path, "steps=2", "evaluation.every=0", "evaluation.at_start=false"))
    assert trained.status == "completed"
    task = TASKS["tiny"].build(config.task, config.seed)
    assert weights.probe(found, task, config)["sync/probe_max"] < 1e-5
    first = load_file(Path(model_dir) / "model.safetensors")
    now = load_file(trained.run_dir / "checkpoints" / "step_000002" / "model" / "model.safetensors")
    stale = {n: first[n] if n.startswith("model.layers.1.") else t for n, t in now.items()}
    accept(found, deliver(found.engines._actors, stale), 99)
    with pytest.raises(weights.ParityError, match="version 99"):
        weights.probe(found, task, config)


def test_pitfall_14_an_engine_refuses_to_generate_with_other_weights(actors: tuple[TrainingCrew, str]) -> None:
    found = actors[0]
    found.engines.connect(found.learner, load(["recipe=care_grpo_tiny"]))  # another test's sender may have come between
    weights.synchronise(found, version=7)
    found.engines.version = 8
    example = Example("e", (2, 3), "")
    sampling = Sampling(n=1, temperature=1.0, max_new_tokens=2, seed=0)
    with pytest.raises(Exception, match="version 7, asked for 8"):
        found.engines.generate([example], sampling)
    whole = load_file(Path(actors[1]) / "model.safetensors")
    with pytest.raises(Exception, match="damaged"):
        accept(found, replace(deliver(found.engines._actors, whole), digest=12345), 8)
    part = {name: tensor for name, tensor in whole.items() if name != "model.layers.1.mlp.up_proj.weight"}
    with pytest.raises(Exception, match=r"1 missing \(model.layers.1.mlp.up_proj.weight\)"):
        accept(found, deliver(found.engines._actors, part, ray.put, "store"), 8)
    with pytest.raises(Exception, match="version None"):
        found.engines.generate([example], sampling)
