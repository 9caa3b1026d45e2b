"""What a sweep leaves at its end: the comparison of the cells that are complete, beside a paper's figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from carerl import sweep as command
from carerl.controller.sweeps.sweep import cells
from carerl.runs.sweep_file import write_cells
from carerl.sweep import parse
from tests.config.test_published import write
from tests.controller.test_going_on import QUIET, stopped_or_complete

PAPER = {
    "source": "A paper",
    "settings": {"model.path": "Some/Model"},
    "notes": [],
    "columns": {"accuracy": "eval/accuracy"},
    "rows": [
        {"label": "GRPO", "settings": {"algorithm.name": "grpo", "regularizer.name": "none"}, "figures": [0.5]},
        {"label": "CARE", "settings": {"algorithm.name": "grpo", "regularizer.name": "srkl"}, "figures": [0.6]},
    ],
}


def complete(place: Path, words: list[str], accuracy: float) -> None:
    stopped_or_complete(place, words, complete=True)
    summary = {
        "status": "completed",
        "steps": 200,
        "base": {"eval/accuracy": 0.3},
        "final": {"eval/accuracy": accuracy},
    }
    (place / "summary.json").write_text(json.dumps(summary))


def test_a_complete_sweep_ends_in_the_comparison_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine", PAPER)
    (tmp_path / "recipes" / "sweeps").mkdir()
    spec_file = {"published": "mine", "rows": ["recipe=none_grpo_tiny", "recipe=care_grpo_tiny"]}
    (tmp_path / "recipes" / "sweeps" / "mine.yaml").write_text(yaml.safe_dump(spec_file))
    words = ["sweep=mine", "seed=100", f"out={tmp_path / 'out'}"]
    spec, grid, _ = parse(words)
    plan = cells(spec.rows, grid, tmp_path / "out", spec.shared)
    write_cells(tmp_path / "out", plan, spec.published)
    for cell, accuracy in zip(plan, (0.75, 0.625), strict=True):
        complete(cell.directory, [*cell.words, *QUIET], accuracy)
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "2 of 2 cells complete" in said and f"compared: {tmp_path / 'out' / 'compare' / 'compare.html'}" in said
    text = (tmp_path / "out" / "compare" / "compare.md").read_text()
    assert "| GRPO | paper |  | 0.500 |" in text and "| ours | 1 | 0.750 |" in text
    assert "| ours | 1 | 0.625 |" in text and "model.path is base_tiny (paper: Some/Model)" in text


def test_a_comparison_that_fails_is_no_fault_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell without any evaluation has nothing to compare."""
    (cell,) = cells(["recipe=care_grpo_tiny"], {"seed": ["100"]}, tmp_path)
    stopped_or_complete(cell.directory, [*cell.words, *QUIET], complete=True)
    assert command.main([*cell.words, f"out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "not compared: no finished run among 1 found" in said and "carerl compare" in said
    assert not (tmp_path / "compare").exists()
