"""sweep.json: which cells were asked for, and what became of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carerl.runs.find import find_sweeps
from carerl.runs.sweep_file import SWEEP_FILE, Cell, read_cells, status, why_absent, write_cells
from tests.runs.synthetic_runs import config, make_run


def cell(sweep: Path, alpha: str, seed: int = 100) -> Cell:
    return Cell(sweep / f"a{alpha}-{seed}", "recipe=care", {"regularizer.alpha": alpha, "seed": str(seed)})


def test_extending_a_sweep_adds_its_cells_and_loses_none(tmp_path: Path) -> None:
    assert read_cells(tmp_path) == []
    write_cells(tmp_path, [cell(tmp_path, ".2"), cell(tmp_path, ".5")])
    write_cells(tmp_path, [cell(tmp_path, ".5"), cell(tmp_path, ".8")])
    found = read_cells(tmp_path)
    assert found == [cell(tmp_path, ".2"), cell(tmp_path, ".5"), cell(tmp_path, ".8")]
    assert found[2].words == ("recipe=care", "regularizer.alpha=.8", "seed=100")
    assert [path.name for path in tmp_path.iterdir()] == [SWEEP_FILE]  # no temporary is left
    # a sweep that was moved is read from where it is now
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / SWEEP_FILE).rename(moved / SWEEP_FILE)
    assert read_cells(moved)[0].directory == moved / "a.2-100"


def test_seeds_of_one_method_belong_together_whatever_the_order_of_words(tmp_path: Path) -> None:
    turned = Cell(tmp_path / "x", "recipe=care", {"seed": "101", "regularizer.alpha": ".2"})
    assert cell(tmp_path, ".2", 100).method == turned.method != cell(tmp_path, ".5", 100).method
    assert cell(tmp_path / "other", ".2").method != turned.method


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": [1]}', '{"cells": {"a": {}}}'])
def test_a_file_that_lists_no_cells_is_an_error_and_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / SWEEP_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"sweep\.json: does not list"):
        write_cells(tmp_path, [cell(tmp_path, ".2")])
    assert (tmp_path / SWEEP_FILE).read_text() == text


def test_what_became_of_a_cell(tmp_path: Path) -> None:
    assert (status(tmp_path / "a"), why_absent(tmp_path / "a")) == ("absent", "not run")
    running = tmp_path / "b"
    running.mkdir()
    (running / "config.yaml").write_text("seed: 1\n")
    assert status(running) == "interrupted" and "still running" in why_absent(running)
    for ended in ("interrupted", "failed"):
        (running / "summary.json").write_text(json.dumps({"status": ended}))
        assert status(running) == ended
    assert why_absent(running) == "failed: without a message"
    (running / "error.txt").write_text("ValueError: no such thing\n\nTraceback (most recent call last):\n  File x\n")
    assert why_absent(running) == "failed: ValueError: no such thing"
    # as earlier versions wrote it
    (running / "error.txt").write_text("Traceback (most recent call last):\n  File x\nKeyError: 'y'\n")
    assert why_absent(running) == "failed: KeyError: 'y'"
    # that an earlier try failed is no matter to one that is complete; a failure before the run began is one
    (running / "summary.json").write_text(json.dumps({"status": "completed"}))
    assert (status(running), why_absent(running)) == ("completed", "")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "error.txt").write_text("OSError: full\n")
    assert status(tmp_path / "c") == "failed"


def test_a_sweep_is_found_at_and_below_a_directory_and_not_around_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "all" / "sweep", config("care", 1), {"eval/accuracy": 0.5})
    write_cells(run.parent, [cell(run.parent, ".2")])
    write_cells(run, [cell(run, ".2")])  # what lies in a run is the run's
    assert find_sweeps([str(tmp_path)]) == find_sweeps([str(tmp_path / "a*")]) == [run.parent]
    assert find_sweeps([str(run)]) == []
