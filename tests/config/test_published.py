"""Publications: what a file must have, and which of our runs stand beside a paper's row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from carerl.config.load import load
from carerl.config.published import published_names, read_published
from carerl.config.reading.typed import plain
from carerl.config.sweep import row_words, sweep_names, sweep_spec
from carerl.errors import ConfigError
from carerl.runs.find import settings_of

WHOLE: dict[str, Any] = {
    "source": "A paper",
    "settings": {"model.path": "Some/Model"},
    "notes": [],
    "columns": {"MATH": "eval/math500/maj", "ECE": ["calibration/truthfulqa/ece"]},
    "rows": [
        {"label": "Base", "base": True, "figures": [0.1, None]},
        {"label": "GRPO", "settings": {"algorithm.name": "grpo"}, "figures": [0.2, 0.3]},
    ],
}


def row(**changed: Any) -> dict[str, Any]:
    return {**WHOLE, "rows": [{**WHOLE["rows"][1], **changed}]}


def write(folder: Path, name: str, tree: Any) -> None:
    place = folder / "recipes" / "published"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(yaml.safe_dump(tree))


def test_a_whole_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine", WHOLE)
    found = read_published("mine")
    assert found.columns == {"MATH": ("eval/math500/maj",), "ECE": ("calibration/truthfulqa/ece",)}
    assert [one.figures for one in found.rows] == [(0.1, None), (0.2, 0.3)] and found.rows[0].base
    assert "mine" in published_names() and "care_rft" in published_names()


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ({k: v for k, v in WHOLE.items() if k != "source"}, "mine.source"),
        ({**WHOLE, "sources": "x"}, "mine.sources"),
        ({**WHOLE, "source": 3}, "mine.source"),
        ({**WHOLE, "notes": "a sentence"}, "mine.notes"),
        ({**WHOLE, "columns": {"MATH": "eval/math/acc"}}, "mine.columns.MATH"),
        ({**WHOLE, "columns": {"MATH": []}}, "mine.columns.MATH"),
        ({**WHOLE, "columns": []}, "mine.columns"),
        ({**WHOLE, "rows": []}, "mine.rows"),
        ({**WHOLE, "settings": {"modle.path": "x"}}, "mine.settings.modle.path"),
        (row(figures=[0.2]), "mine.rows[0].figures"),
        (row(figures=[0.2, "high"]), "mine.rows[0].figures"),
        (row(figures=[0.2, True]), "mine.rows[0].figures"),
        (row(base=True), "mine.rows[0].base"),
        (row(settings={}), "mine.rows[0].settings"),
        (row(label=None), "mine.rows[0].label"),
        (row(n=3), "mine.rows[0].n"),
        ({**WHOLE, "rows": [WHOLE["rows"][1], {**WHOLE["rows"][1], "label": "Again"}]}, "mine.rows[1]"),
        ({**WHOLE, "rows": ["GRPO"]}, "mine.rows[0]"),
    ],
)
def test_a_broken_file_is_refused_with_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Any, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine", tree)
    with pytest.raises(ConfigError) as caught:
        read_published("mine")
    error = caught.value
    assert error.field == field and error.reason and error.remedy


def test_a_sweep_of_an_unknown_publication_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "sweeps").mkdir(parents=True)
    spec = tmp_path / "recipes" / "sweeps" / "mine.yaml"
    spec.write_text("published: care_rtf\nrows: ['recipe=care_grpo_tiny']\n")
    with pytest.raises(ConfigError) as caught:
        sweep_spec("mine")
    assert (caught.value.field, caught.value.remedy) == ("mine.published", "did you mean care_rft?")
    spec.write_text("settings: [steps=3]\nrows: ['recipe=care_grpo_tiny']\n")
    with pytest.raises(ConfigError) as caught:
        sweep_spec("mine")
    assert caught.value.field == "mine.settings"


def test_each_row_of_the_papers_table_has_exactly_one_of_ours() -> None:
    """The nine cells of paper_3b stand beside nine rows, one each; the base has none of them."""
    spec, paper = sweep_spec("paper_3b"), read_published("care_rft")
    assert spec.published == "care_rft" and len(spec.rows) == 9
    cells = [settings_of(plain(load([*row_words(f"{row} {spec.shared}"), "dry_run=true"]))) for row in spec.rows]
    beside = {row.label: [number for number, cell in enumerate(cells) if row.is_of(cell)] for row in paper.rows}
    assert beside.pop("Base") == [] and sorted(beside.values()) == [[number] for number in range(9)]
    assert all(cells[0].get(key, value) == value for key, value in paper.settings.items())
    assert all(cell["regularizer.beta"] == paper.settings["regularizer.beta"] for cell in cells if "rkl" in str(cell))
    assert cells[0]["task.benchmarks"] == ["math500", "gsm8k", "selfaware", "truthfulqa"]


def test_the_sweep_of_alphas_reaches_from_reverse_kl_to_95_percent() -> None:
    spec = sweep_spec("paper_alpha")
    cells = [load([*row_words(f"{row} {spec.shared}"), "dry_run=true"]) for row in spec.rows]
    assert [cell.regularizer.alpha for cell in cells] == [0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95]  # type: ignore[attr-defined]
    assert {(cell.algorithm.name, cell.regularizer.name, cell.model.path) for cell in cells} == {
        ("grpo", "srkl", "Qwen/Qwen2.5-3B")
    }
    assert {"paper_3b", "paper_7b", "paper_alpha"} <= set(sweep_names())
