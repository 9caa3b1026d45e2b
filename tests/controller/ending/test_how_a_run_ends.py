"""What is left when a run ends badly, with real workers in this process: the first error is the one that is told, the
rest of the end is done all the same, and the directory can be gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import load
from carerl.config.rehearsal import rehearsed
from carerl.config.schema import RunConfig
from carerl.controller import launch
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.preparation import prepare
from carerl.runs.directory import RunDirectory
from carerl.tracking.display import QuietDisplay
from carerl.types import RunError
from tests.actors.in_process import crew_in_process
from tests.controller.ending.disks import fill, small_disk
from tests.controller.rehearsal.test_rehearsal import WORDS, base_model  # noqa: F401 (a fixture)


class At(QuietDisplay):
    """Does something once a step is done."""

    def __init__(self, step: int, act: Any) -> None:
        self._step, self._act = step, act
        self.closed = False

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self._step:
            self._act()

    def close(self) -> None:
        self.closed = True


def settings(model: Path, place: Path, *words: str) -> RunConfig:
    small = rehearsed(load([*WORDS, f"model.path={model}", *words]))
    small.run_dir, small.tracking.wandb = str(place), "off"
    return small


def run(monkeypatch: pytest.MonkeyPatch, config: RunConfig, model: Path, display: QuietDisplay) -> launch.Result:
    with crew_in_process(monkeypatch) as actors:
        return launch.run(config, actors, str(model), display, StopFlag(), prepare(config, str(model)))


def test_a_full_disk_is_what_a_run_says_it_ended_of(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next thing to be written, whichever it is, meets the full disk, and so do summary and report."""
    with small_disk(tmp_path / "disk", 64) as disk:
        place = disk / "run"
        display = At(1, lambda: fill(disk))
        with pytest.raises(RunError) as caught:
            run(monkeypatch, settings(base_model, place), base_model, display)
        told, said = str(caught.value), capsys.readouterr().err
        assert "No space left" in told or "disk is full" in told or "are free" in told
        assert "ake room" in told
        assert "at the end, summary.json failed" in said and display.closed
        assert not (place / "summary.json").exists() and not list(place.glob(".*.tmp"))
        RunDirectory.open(place).release()  # its lock was let go


def test_an_end_that_fails_hides_nothing_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A directory stands where summary.json should."""
    place = tmp_path / "run"

    def act() -> None:
        (place / "summary.json").mkdir()
        raise RunError("what ended it")

    display = At(1, act)
    with pytest.raises(RunError, match="what ended it"):
        run(monkeypatch, settings(base_model, place), base_model, display)
    assert "at the end, summary.json failed: IsADirectoryError" in capsys.readouterr().err
    assert (place / "report.html").exists() and display.closed
    RunDirectory.open(place).release()


def test_a_run_whose_end_is_not_on_disk_is_not_a_success(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_model: Path,  # noqa: F811
) -> None:
    place = tmp_path / "run"
    result = run(monkeypatch, settings(base_model, place), base_model, At(1, lambda: (place / "summary.json").mkdir()))
    assert (result.status, result.exit_code) == ("completed", 1)
