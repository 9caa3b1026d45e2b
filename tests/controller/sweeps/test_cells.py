"""What a sweep finds at a cell's name, and does with it: nothing of it is ever deleted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import dump, load
from carerl.controller import launch
from carerl.controller.sweeps import sweep as controller
from carerl.controller.sweeps.sweep import BASE, CELL, _record_failure, _settings, _start, sweep
from carerl.errors import ConfigError
from carerl.runs import commit
from carerl.runs.directory import RunDirectory, RunDirectoryError
from carerl.runs.sweep_file import Cell, status
from carerl.tracking.display import QuietDisplay
from tests.controller.test_checkpoints import damage
from tests.controller.test_going_on import QUIET, Started, model, never, one_cell, stopped_or_complete


def begun(cell: Cell) -> RunDirectory:
    """A run at the cell's name that has come to no checkpoint; its lock is held."""
    run = RunDirectory.create("", "x", 1, path=cell.directory)
    run.write_config(dump(load([*cell.words, *QUIET])))
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n')
    return run


@pytest.mark.parametrize("entry", ["thesis.txt", "checkpoints", ".hidden"])
def test_what_is_no_run_is_refused_before_anything_starts(
    tmp_path: Path, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    cell = one_cell(tmp_path)
    (cell.directory / entry / "deep").mkdir(parents=True)
    (cell.directory / entry / "deep" / "kept").write_text("years of work")
    with pytest.raises(ConfigError) as caught:
        sweep([cell], 1, QUIET, print)
    assert caught.value.field == "out" and entry in caught.value.reason and "move it away" in caught.value.remedy
    list(_start(cell))  # nor would a worker that met it touch it
    assert (cell.directory / entry / "deep" / "kept").read_text() == "years of work"
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create("", "x", 1, path=cell.directory)


def test_a_file_at_its_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    cell = one_cell(tmp_path)
    cell.directory.write_text("a file")
    with pytest.raises(ConfigError):
        sweep([cell], 1, QUIET, print)
    assert cell.directory.read_text() == "a file"


def test_a_link_to_nowhere_at_its_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    cell = one_cell(tmp_path)
    cell.directory.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        sweep([cell], 1, QUIET, print)
    assert cell.directory.is_symlink()


def test_a_run_without_a_checkpoint_is_set_aside_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    cell, said = one_cell(tmp_path), []
    for number in ("", "2"):
        begun(cell).release()
        with pytest.raises(Started):
            sweep([cell], 1, QUIET, print)
        assert list(_start(cell, said.append)) == [*cell.words, f"run_dir={cell.directory}"]
        aside = cell.directory.with_name(f"{cell.name}.unsaved{number}")
        assert (aside / "metrics.jsonl").exists() and aside.name in said[-1]
        assert not cell.directory.exists()


def test_a_run_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    cell = one_cell(tmp_path)
    run = begun(cell)
    with pytest.raises(RunDirectoryError, match="another process is writing") as caught:
        list(_start(cell))
    _record_failure(cell, caught.value)
    assert sorted(path.name for path in cell.directory.iterdir()) == [".lock", "config.yaml", "metrics.jsonl"]
    run.release()


def test_a_base_model_is_made_while_another_worker_has_the_cell(tmp_path: Path) -> None:
    cell = one_cell(tmp_path)
    run = begun(cell)
    assert _settings(BASE, cell, QUIET, never).seed == load(cell.words).seed and cell.directory.is_dir()
    run.release()
    assert _settings(CELL, cell, QUIET, lambda text: None).run_dir == str(cell.directory)
    assert not cell.directory.exists()


def test_a_checkpoint_without_its_pointer_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the rename and the pointer."""
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", never)
    cell = one_cell(tmp_path)
    stopped_or_complete(cell.directory, [*cell.words, *QUIET], complete=False)
    (cell.directory / "checkpoints" / "latest").unlink()
    with pytest.raises(Started):
        sweep([cell], 1, QUIET, print)
    assert list(_start(cell)) == [f"resume={cell.directory}"]
    directory, state = commit.latest(cell.directory / "checkpoints", print)
    assert state["step"] == 50 and directory.is_dir()


def test_settings_that_must_be_named_again_are(tmp_path: Path) -> None:
    (cell,) = controller.cells(["recipe=care_grpo_tiny tracking.wandb=online"], {"seed": ["100"]}, tmp_path)
    stopped_or_complete(cell.directory, [*cell.words], complete=False)
    words = list(_start(cell))
    assert words == [f"resume={cell.directory}", "recipe=care_grpo_tiny", "tracking.wandb=online"]
    assert load(words).tracking.wandb == "online"


def test_a_cell_that_goes_back_to_an_earlier_checkpoint_says_so(tmp_path: Path) -> None:
    cell = one_cell(tmp_path)
    config = stopped_or_complete(cell.directory, [*cell.words, *QUIET], complete=False)
    later = cell.directory / "checkpoints" / "step_000100"
    shutil.copytree(cell.directory / "checkpoints" / "step_000050", later)
    damage(later)
    heard: list[str] = []
    line: Any = type("", (), {"say": lambda self, text: heard.append(text)})()
    shown = controller._CellDisplay(line, cell.name)
    from carerl.config.load import base_config
    from carerl.controller.models import base_model

    start = model(base_model.base_directory(base_config(config)))
    run, step, _ = launch._open(load([f"resume={cell.directory}"]), shown, str(start))
    run.release()
    assert step == 50
    assert sum(f"{cell.name}: warning: checkpoint" in text for text in heard) == 2
    assert "is passed over: learner/shard does not match its checksum" in heard[0] and ".damaged" in heard[1]


def test_a_quiet_display_is_not_silent_about_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    QuietDisplay().warning("checkpoint x is passed over")
    QuietDisplay().message("chatter")
    assert capsys.readouterr().err == "warning: checkpoint x is passed over\n"


def test_a_cell_whose_worker_was_killed_has_failed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep's own part: what the team tells of a death is the cell's error."""
    from tests.controller.test_going_on import no_cluster

    cell, said = one_cell(tmp_path), []

    def killed(jobs: Any, workers: int, target: Any, arguments: Any, heard: Any, stopped: Any) -> None:
        for job in jobs:
            heard(controller.END, job, "its worker was ended from outside by SIGKILL")

    monkeypatch.setattr(controller, "cluster", no_cluster)
    monkeypatch.setattr(controller, "address", lambda: "")
    monkeypatch.setattr(controller, "run_jobs", killed)
    assert sweep([cell], 1, QUIET, said.append) == {cell.name: "failed"}
    assert status(cell.directory) == "failed" and "SIGKILL" in (cell.directory / "error.txt").read_text()
    assert "SIGKILL" in said[-1]
