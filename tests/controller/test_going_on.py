"""Going on with a run, and sweeps whose cells are there already: what is refused, before anything is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save as serialise

from carerl import sweep as command
from carerl.actors.cluster.cluster import Resources
from carerl.backends.models import make_model
from carerl.config.load import base_config, dump, load
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.controller import launch, session
from carerl.controller.models import base_model, starting_weights
from carerl.controller.sweeps.sweep import _record_failure, _start, cells, sweep
from carerl.errors import ConfigError
from carerl.runs.sweep_file import Cell, read_cells, status, why_absent
from carerl.tasks.tiny.tokenizer import make_tokenizer
from carerl.tracking.display import QuietDisplay
from tests.controller.test_checkpoints import commit, damage

TINY = ["recipe=care_grpo_tiny", "steps=200"]
QUIET = ["tracking.display=quiet"]


@cache
def drawn(seed: int) -> bytes:
    """The weights of :func:`model`, as a safetensors file."""
    torch.manual_seed(seed)
    shape = ShapeConfig(vocab_size=64, hidden_size=64, intermediate_size=128, head_dim=32, num_layers=3, num_heads=2,
                        tie_embeddings=False)  # fmt: skip
    return serialise({name: tensor.detach() for name, tensor in make_model(shape, (1,)).named_parameters()})


def model(directory: Path, weights: bytes = b"", **config: Any) -> Path:
    """A model directory that passes all checks, if its weights are not given."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = weights or drawn(1)
    facts = {
        "model_type": "qwen3", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "head_dim": 32,
        "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "eos_token_id": 1,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps({**facts, **config}))
    (directory / "model.safetensors").write_bytes(weights)
    make_tokenizer().save_pretrained(directory)
    return directory


def test_the_identity_is_that_of_the_weights_and_of_nothing_else(tmp_path: Path) -> None:
    one = starting_weights.identity(str(model(tmp_path / "one")))
    assert one.startswith("sha256:") and len(one) == len("sha256:") + 64
    assert starting_weights.identity(str(model(tmp_path / "moved"))) == one
    (tmp_path / "one" / "generation_config.json").write_text("{}")
    assert starting_weights.identity(str(tmp_path / "one")) == one
    others = {
        starting_weights.identity(str(model(tmp_path / "a", weights=b"Weights"))),
        starting_weights.identity(str(model(tmp_path / "b", rope_theta=5.0))),
        starting_weights.identity("owner/name"),
        starting_weights.identity("owner/other"),
        starting_weights.identity(""),
    }
    assert len(others) == 5 and one not in others
    (tmp_path / "one" / "model-2.safetensors").write_bytes(b"more")
    assert starting_weights.identity(str(tmp_path / "one")) != one


def test_large_files_are_told_apart_by_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting_weights, "LARGE", 1000)
    monkeypatch.setattr(starting_weights, "SAMPLES", 5)
    monkeypatch.setattr(starting_weights, "SAMPLE_BYTES", 10)
    weights = bytearray(1001)
    path = model(tmp_path / "m", bytes(weights))
    first = starting_weights.identity(str(path))
    read = [(1001 - 10) * i // 4 for i in range(5)]
    for at in (read[0], read[-1] + 9, read[2]):
        changed = bytearray(weights)
        changed[at] = 1
        assert starting_weights.identity(str(model(path, bytes(changed)))) != first, at
    assert starting_weights.identity(str(model(path, bytes(weights) + b"\0"))) != first


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path]:
    """A run that was stopped at step 100, and the directory that it started from."""
    start = model(tmp_path / "model")
    config = load([*TINY, f"model.path={start}", f"run_dir={tmp_path / 'run'}"])
    directory, step, _ = launch._open(config, QuietDisplay(), str(start))
    assert step is None
    for number in (50, 100):
        commit(directory, number)
    directory.metrics.write_text("".join(json.dumps({"step": n}) + "\n" for n in range(101)))
    directory.release()
    return directory.path, start


def go_on(run_dir: Path, model_dir: Path | str, *words: str) -> int | None:
    directory, step, _ = launch._open(load([f"resume={run_dir}", *words]), QuietDisplay(), str(model_dir))
    directory.release()
    return step


def test_a_run_goes_on_from_the_weights_that_it_started_from(run: tuple[Path, Path]) -> None:
    assert go_on(*run) == 100
    assert json.loads((run[0] / starting_weights.RECORD).read_text())["identity"] == starting_weights.identity(
        str(run[1])
    )


def test_other_starting_weights_are_refused_and_nothing_is_changed(run: tuple[Path, Path]) -> None:
    run_dir, start = run
    damage(run_dir / "checkpoints" / "step_000100")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    model(start, b"trained further")
    with pytest.raises(ConfigError) as caught:
        go_on(run_dir, start, "evaluation.samples=3")
    error = caught.value
    assert (error.field, error.value) == ("model.path", str(start))
    assert "reference policy" in error.reason and "without resume=" in error.remedy
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
    model(start)
    assert go_on(run_dir, start) == 50  # the lock was let go, too


def test_a_run_without_the_record_goes_on_and_has_one_from_then(run: tuple[Path, Path]) -> None:
    run_dir, start = run
    (run_dir / starting_weights.RECORD).unlink()
    model(start, b"others")
    assert go_on(run_dir, start) == 100
    model(start)
    with pytest.raises(ConfigError, match="not those"):
        go_on(run_dir, start)


def test_fewer_steps_than_are_done_are_refused_before_anything_is_changed(run: tuple[Path, Path]) -> None:
    damage(run[0] / "checkpoints" / "step_000100")
    with pytest.raises(ConfigError) as caught:
        go_on(*run, "steps=49")
    assert caught.value.field == "steps"
    assert (run[0] / "checkpoints" / "step_000100").is_dir()
    assert go_on(*run, "steps=50") == 50


class Started(Exception):
    """What may not have been reached was."""


def never(*args: Any, **named: Any) -> Any:
    raise Started


@contextmanager
def no_cluster(*args: Any) -> Iterator[Any]:
    yield Resources(cpus=2.0, gpus=0.0, joined=False)


def test_launch_refuses_other_weights_before_any_actor(run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "cluster", no_cluster)
    monkeypatch.setattr(session, "crew", never)
    config = load([f"resume={run[0]}", *QUIET])
    with pytest.raises(Started):
        launch.launch(config)
    model(run[1], drawn(2))
    with pytest.raises(ConfigError, match="not those"):
        launch.launch(config)


def stopped_or_complete(directory: Path, words: list[str], complete: bool) -> RunConfig:
    """A run of a cell, from the base model that its recipe makes."""
    config = load([*words, f"run_dir={directory}"])
    run, *_ = launch._open(config, QuietDisplay(), str(model(base_model.base_directory(base_config(config)))))
    commit(run, 200 if complete else 50)
    if complete:
        run.write_summary({"status": "completed", "steps": 200})
    run.release()
    return config


def test_a_changed_base_recipe_is_seen_before_the_base_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_or_complete(tmp_path / "run", TINY, complete=False)
    config = load([f"resume={tmp_path / 'run'}", *QUIET])
    monkeypatch.setattr(session, "cluster", never)
    with pytest.raises(Started):
        launch.launch(config)
    monkeypatch.setattr("carerl.config.load.source_text", lambda task: "another world")
    with pytest.raises(ConfigError) as caught:
        launch.launch(config)
    assert (caught.value.field, caught.value.value) == ("model.base_recipe", "base_tiny")
    again = model(base_model.base_directory(base_config(config)))  # by the other code, and the same numbers
    with pytest.raises(Started):
        launch.launch(config)
    (again / "config.json").write_text("{}")  # other numbers
    with pytest.raises(ConfigError):
        launch.launch(config)


def one_cell(out: Path, *words: str) -> Cell:
    (cell,) = cells([" ".join([*TINY[:1], *words])], {"seed": ["100"]}, out)
    return cell


def test_a_complete_sweep_has_nothing_to_do(tmp_path: Path) -> None:
    cell = one_cell(tmp_path)
    stopped_or_complete(cell.directory, [*cell.words, "rollout.threads=1", *QUIET], complete=True)
    said: list[str] = []
    assert sweep([cell], 2, QUIET, said.append) == {cell.name: "completed"}
    assert "1 complete already" in said[0]


@pytest.mark.parametrize("complete", [True, False])
def test_a_cell_of_other_settings_is_refused_complete_or_half_done(
    tmp_path: Path, complete: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = one_cell(tmp_path)
    before = stopped_or_complete(cell.directory, [*cell.words, "regularizer.beta=0.5"], complete)
    assert command.main([*cell.words, f"out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert cell.name in said and "Traceback" not in said
    assert f"regularizer.beta = {load(cell.words).regularizer.beta} is refused" in said
    assert "was run with regularizer.beta = 0.5" in said and str(cell.directory) in said
    assert (cell.directory / "config.yaml").read_text() == dump(before)


def test_a_cell_from_another_base_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = one_cell(tmp_path)
    stopped_or_complete(cell.directory, [*cell.words], complete=True)
    sweep([cell], 1, QUIET, print)
    monkeypatch.setattr("carerl.config.load.source_text", lambda task: "another world")
    with pytest.raises(ConfigError) as caught:
        sweep([cell], 1, QUIET, print)
    assert caught.value.field == "model.base_recipe" and "delete the cell" in caught.value.remedy


def test_a_cell_that_starts_afresh_takes_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = one_cell(tmp_path)
    cell.directory.mkdir()
    (cell.directory / "config.yaml").write_text(dump(load([*cell.words, "regularizer.beta=0.5"])))
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    with pytest.raises(Started):  # it had no checkpoint: it is started
        sweep([cell], 1, QUIET, print)


def test_a_sweep_leaves_a_list_of_the_cells_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that are complete, before anything is run; an extension adds its own, a refused one nothing."""
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    plan = cells(TINY[:1], {"regularizer.alpha": ["0", ".5"], "seed": ["100"]}, tmp_path)
    stopped_or_complete(plan[0].directory, [*plan[0].words, *QUIET], complete=True)
    with pytest.raises(Started):
        sweep(plan, 1, QUIET, print)
    assert read_cells(tmp_path) == plan
    more = cells(TINY[:1], {"regularizer.alpha": [".5", ".9"], "seed": ["100"]}, tmp_path)
    with FileLock(tmp_path / ".sweep.lock"), pytest.raises(ConfigError) as caught:
        sweep(more, 1, QUIET, print)
    assert caught.value.reason == "another sweep is at work there" and read_cells(tmp_path) == plan
    with pytest.raises(ConfigError):
        sweep(cells(TINY[:1], {"regularizer.alpha": ["2"]}, tmp_path), 1, QUIET, print)
    assert read_cells(tmp_path) == plan
    with pytest.raises(Started):
        sweep(more, 1, QUIET, print)
    assert read_cells(tmp_path) == [*plan, more[1]]


def test_a_failure_is_told_in_the_first_line_and_forgotten_when_the_cell_goes_on(tmp_path: Path) -> None:
    cell = one_cell(tmp_path)
    stopped_or_complete(cell.directory, [*cell.words, *QUIET], complete=False)
    for error, line in (
        (RuntimeError("out of memory\nat step 3"), "RuntimeError: out of memory"),
        (ConfigError("steps", 3, "too few", "give more"), "steps: too few"),
        (AssertionError(), "AssertionError"),
    ):
        _record_failure(cell, error)
        assert (status(cell.directory), why_absent(cell.directory)) == ("failed", f"failed: {line}")
    assert list(_start(cell)) == [f"resume={cell.directory}"]
    assert status(cell.directory) == "interrupted"
    # without a checkpoint it starts afresh, and nothing of the failed try is left
    fresh = one_cell(tmp_path / "other")
    _record_failure(fresh, RuntimeError("x"))
    assert list(_start(fresh)) == [*fresh.words, f"run_dir={fresh.directory}"] and status(fresh.directory) == "absent"


def test_a_sweep_cannot_take_over_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(["recipe=care_grpo_tiny resume=runs/x"], {}, tmp_path)
    assert caught.value.field == "resume"


def test_a_run_made_from_nothing_has_no_record(tmp_path: Path) -> None:
    config = load(["recipe=base_tiny", f"run_dir={tmp_path / 'run'}"])
    directory, *_ = launch._open(config, QuietDisplay(), "")
    commit(directory, 50)
    directory.release()
    assert not (directory.path / starting_weights.RECORD).exists()
    assert go_on(directory.path, "") == 50


def test_a_sweep_refuses_a_models_files_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    start = model(tmp_path / "model")
    words = [f"recipe=care_grpo_tiny model.path={start}"]
    plan = cells(words, {"seed": ["1", "2"]}, tmp_path / "sweep")
    with pytest.raises(Started):
        sweep(plan, 1, QUIET, print)
    model(start, drawn(1)[:-7])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        sweep(plan, 1, QUIET, print)
