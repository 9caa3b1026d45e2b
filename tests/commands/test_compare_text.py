"""Comparisons of text benchmarks: the paper's table, intervals over questions, evaluations as rows, files.

The tiny world's columns, tests and frontiers are in test_compare.py."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from carerl.compare import main
from carerl.metrics.table import headline_columns, metric_line, paper_columns
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.files import latex
from carerl.report.compare.tables import main_tables, notes
from carerl.runs.find import find_runs, read_run
from tests.report.test_run_page import check_page
from tests.runs.synthetic_runs import BASE, TEXT, bins, config, make_evaluate, make_evaluation, make_run, questions


def compare(parent: Path) -> Comparison:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])])


def text_run(parent: Path, recipe: str, seed: int, regularizer: str, shift: float, **made: Any) -> Path:
    final = {name: value + shift + 0.001 * seed for name, value in TEXT.items()}
    run = make_run(parent, config(recipe, seed, regularizer), final, TEXT)
    make_evaluation(run, 200, final, **made)
    return run


def test_the_papers_columns_are_those_there_are_in_its_order() -> None:
    assert paper_columns(TEXT) == [
        "eval/math500/accuracy",
        "eval/gsm8k/accuracy",
        "eval/selfaware/f1",
        "eval/truthfulqa/accuracy",
        "calibration/truthfulqa/ece",
    ]
    assert paper_columns({"eval/math_test/accuracy", "calibration/math_test/ece"}) == [
        "eval/math_test/accuracy",
        "calibration/math_test/ece",
    ]
    assert paper_columns(BASE) == [] and headline_columns(BASE)[0] == "eval/accuracy"
    labels = [metric_line(name).label for name in headline_columns({**TEXT, "eval/accuracy": 0.4, "eval/entropy": 0.1})]
    assert labels == [
        *("MATH-500", "GSM8K", "SelfAware F1", "TruthfulQA", "ECE TruthfulQA"),
        *("MATH-500 maj@N", "GSM8K maj@N", "TruthfulQA hallucination", "ECE MATH-500", "entropy (nats/token)"),
    ], "what the primary suite has under a plain name, too, is there once"


def test_text_runs_make_the_papers_table_with_stars_over_seeds(tmp_path: Path) -> None:
    """Five seeds each; every difference is exactly .1, so that each test has p = 0."""
    for seed in range(1, 6):
        text_run(tmp_path, "none", seed, "none", 0.0)
        text_run(tmp_path, "care", seed, "srkl", 0.1)
    comparison = compare(tmp_path)
    paper, further = main_tables(comparison)
    assert paper.head == ["method", "n", "MATH-500", "GSM8K", "SelfAware F1", "TruthfulQA", "ECE TruthfulQA"]
    assert further.head[2:] == ["MATH-500 maj@16", "GSM8K maj@16", "TruthfulQA hallucination", "ECE MATH-500"]
    # .41 + .003 ± t(.975, 4) · .001 · √2.5 / √5 = ± .00196
    assert paper.lines[1][:4] == ["none", "5", "0.413 ± 0.002", "0.793 ± 0.002"]
    assert paper.lines[2][:4] == ["care", "5", "0.513 ± 0.002*", "0.893 ± 0.002*"]
    assert any("9 tests" in note for note in comparison.notes)


def test_one_run_a_row_has_intervals_over_questions_and_says_so(tmp_path: Path) -> None:
    intervals = {"eval/math500/accuracy": [0.37, 0.452], "eval/gsm8k/accuracy": [None, None]}
    text_run(tmp_path, "none", 0, "none", 0.0, intervals=intervals)
    text_run(tmp_path, "care", 0, "srkl", 0.1, intervals={"eval/math500/accuracy": [0.47, 0.552]})
    comparison = compare(tmp_path)
    paper, _ = main_tables(comparison)
    assert paper.lines[1][2:4] == ["0.410 [0.370, 0.452]", "0.790"]
    words = notes(comparison)
    assert words[0].startswith("One run a row") and words[1].startswith("[low, high]: 95 % interval over the questions")
    assert not any(cell.starred for row in comparison.rows for cell in row.cells.values())
    assert main([str(tmp_path), f"out={tmp_path / 'out'}"]) == 0
    with open(tmp_path / "out" / "compare.csv", newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    row = rows["care", "eval/math500/accuracy"]
    assert (row["interval_low"], row["interval_high"], row["interval_over"]) == ("0.47", "0.552", "questions")
    assert rows["care", "eval/gsm8k/accuracy"]["interval_over"] == "" and row["half_interval"] == ""


def test_two_seeds_have_intervals_over_seeds_whatever_their_evaluations_say(tmp_path: Path) -> None:
    for seed in (1, 2):
        text_run(tmp_path, "none", seed, "none", 0.0, intervals={"eval/math500/accuracy": [0.1, 0.9]})
    text_run(tmp_path, "care", 1, "srkl", 0.1, intervals={"eval/math500/accuracy": [0.2, 0.8]})
    comparison = compare(tmp_path)
    cells = {row.label: row.cells["eval/math500/accuracy"] for row in comparison.rows}
    assert cells["none"].questions is None and cells["none"].half is not None
    assert cells["care"].bounds == (0.2, 0.8)
    words = " ".join(notes(comparison))
    assert "Mean over seeds" in words and "[low, high]" in words


def test_a_metric_that_nobody_measured_has_no_column(tmp_path: Path) -> None:
    make_run(tmp_path, config("none", 1), {"eval/gsm8k/accuracy": 0.8, "eval/accuracy": 0.8}, {})
    (table,) = main_tables(compare(tmp_path))
    assert table.head == ["method", "n", "GSM8K"] and table.lines == [["none", "1", "0.800"]]


def test_a_tiny_run_among_text_runs_is_left_out_with_the_reason(tmp_path: Path) -> None:
    text_run(tmp_path, "none", 1, "none", 0.0)
    make_run(tmp_path, config("tiny", 1), dict(BASE))
    comparison = compare(tmp_path)
    assert [row.label for row in comparison.rows] == ["base", "none"]
    assert [reason for _, reason in comparison.left_out] == ["has no text benchmark; compare it by itself"]


def test_evaluations_of_a_recipes_checkpoints_are_one_row_over_its_seeds(tmp_path: Path) -> None:
    """Two seeds of care, evaluated apart from training; latest is a link to step 200. Another model is a row by its
    name."""
    for seed in (3, 4):
        run = make_run(tmp_path / "trained", config("care", seed, "srkl", alpha=0.8), None)
        checkpoint = run / "checkpoints" / "step_000200"
        (checkpoint / "model").mkdir(parents=True)
        (run / "checkpoints" / "latest").symlink_to(checkpoint.name)
        model = run / "checkpoints" / "latest" / "model"
        make_evaluate(tmp_path / "ev", f"e{seed}", str(model), {"eval/gsm8k/accuracy": 0.1 * seed})
    make_evaluate(tmp_path / "ev", "other", "Some/Model-3B", {"eval/gsm8k/accuracy": 0.9})
    comparison = compare(tmp_path / "ev")
    rows = {row.label: row for row in comparison.rows}
    assert set(rows) == {"care", "Some/Model-3B"}
    assert rows["care"].cells["eval/gsm8k/accuracy"].values == pytest.approx({3: 0.3, 4: 0.4})
    assert rows["care"].runs[0].regularizer == "srkl" and rows["care"].runs[0].trained_in is not None
    assert main([str(tmp_path / "ev"), f"out={tmp_path / 'out'}"]) == 0
    with open(tmp_path / "out" / "provenance.csv", newline="") as file:
        lines = {line["run"]: line for line in csv.DictReader(file)}
    assert lines["e3"]["recipe"] == "care" and "care-s3-" in lines["e3"]["evaluates"]
    assert lines["other"]["evaluates"] == ""


def test_two_checkpoints_of_one_run_are_two_rows(tmp_path: Path) -> None:
    run = make_run(tmp_path / "trained", config("care", 3, "srkl"), None)
    for step in (100, 200):
        model = run / "checkpoints" / f"step_{step:06d}" / "model"
        model.mkdir(parents=True)
        make_evaluate(tmp_path / "ev", f"e{step}", str(model), {"eval/gsm8k/accuracy": 0.001 * step})
    comparison = compare(tmp_path / "ev")
    assert [row.label for row in comparison.rows] == [
        f"care · model.checkpoint=checkpoints/step_000{step}/model" for step in (100, 200)
    ]
    assert comparison.left_out == ()


def test_every_cell_leads_to_runs_recipe_and_code(tmp_path: Path) -> None:
    """care ran on a commit with changes, one of none's runs on another one than the other."""
    commits = {("none", 1): ("a" * 40, False), ("none", 2): ("b" * 40, False), ("care", 1): ("a" * 40, True)}
    for (recipe, seed), (commit, dirty) in commits.items():
        asked = questions("math500", [0.9, 0.4], [1.0, 0.0])
        regularizer = "none" if recipe == "none" else "srkl"
        run = text_run(
            tmp_path / "runs", recipe, seed, regularizer, 0.0, reliability={"math500": bins(0.1)}, rows=asked
        )
        (run / "versions.json").write_text(json.dumps({"carerl": "0.1.0", "commit": commit, "dirty": dirty}))
    out = tmp_path / "out"
    assert main([str(tmp_path / "runs"), f"out={out}"]) == 0
    with open(out / "compare.csv", newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    care, none = rows["care", "eval/gsm8k/accuracy"], rows["none", "eval/gsm8k/accuracy"]
    assert (care["recipe"], care["code"], care["commits"]) == ("care", f"0.1.0 {'a' * 10}+", "a" * 40)
    assert none["commits"] == f"{'a' * 40}; {'b' * 40}" and len(none["runs"].split()) == 2

    text = (out / "compare.md").read_text()
    line = f"- [c] care: care; code 0.1.0 {'a' * 10}+; 1 run, seeds 1: `care-s1-20261121-100000-ab12`"
    assert line in text and "| care [c] |" in text
    assert f"0.1.0 {'a' * 10} (1 runs), 0.1.0 {'b' * 10} (1 runs)" in text
    tex = (out / "compare.tex").read_text()
    assert (
        r"care\textsuperscript{c} & 1 & 0.411" in tex and rf"\textsuperscript{{c}}~care; code 0.1.0 {'a' * 10}+" in tex
    )

    page = check_page((out / "compare.html").read_text())
    words = " ".join(" ".join(page.text).split())
    assert "Accuracy over coverage" in words and "MATH-500 against ECE TruthfulQA" in words
    # the label, five of the paper's columns and four more
    assert page.references.count("group-2") >= 10 and f"care; code 0.1.0 {'a' * 10}+; 1 run, seeds 1." in words
    assert {path.suffix for path in (out / "figures").iterdir()} == {".svg", ".png"}
    assert (out / "figures" / "accuracy-coverage.png").exists()
    assert (out / "figures" / "reliability-math500.svg").exists()


def test_latex_is_balanced_and_every_line_has_all_cells(tmp_path: Path) -> None:
    for seed in (1, 2):
        text_run(tmp_path, "none_50%", seed, "none", 0.0)
        text_run(tmp_path, "care_a&b", seed, "srkl", 0.1)
    tex = latex(compare(tmp_path), [])
    for name in ("table", "tabular", "minipage"):
        assert tex.count(rf"\begin{{{name}}}") == tex.count(rf"\end{{{name}}}") >= 2
    bare = re.sub(r"\\[{}]", "", tex)
    assert bare.count("{") == bare.count("}")
    assert tex.isascii(), sorted(set(tex) - set(map(chr, range(128))))
    tables = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL)
    assert len(tables) == 3
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(lines) >= 2 and {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}
    assert r"none\_50\%" in tex and r"care\_a\&b" in tex and r"$\pm$" in tex


def test_questions_that_were_not_asked_stand_beside_accuracy_as_a_count(tmp_path: Path) -> None:
    """A count of questions has no decimals; where every question was asked there is no such column."""
    name = "eval/math500/too_long"
    for seed in (1, 2):
        made = make_run(tmp_path / "with", config("none", seed, "none"), {**TEXT, name: 3.0}, {**TEXT, name: 3.0})
        make_evaluation(made, 200, {**TEXT, name: 3.0})
    found = compare(tmp_path / "with")
    assert name in found.columns and metric_line(name).label == "MATH-500 questions not asked: too long"
    assert found.columns.index("eval/math500/accuracy") < found.columns.index(name)
    assert {row.cells[name].mean for row in found.rows} == {3.0}
    assert main(["out=" + str(tmp_path / "out"), str(tmp_path / "with")]) == 0
    lines = (tmp_path / "out" / "compare.md").read_text().splitlines()
    header = next(number for number, line in enumerate(lines) if metric_line(name).label in line)
    assert lines[header + 2].endswith("| 3 ± 0 |")
    text_run(tmp_path / "without", "none", 1, "none", 0.0)
    assert name not in compare(tmp_path / "without").columns


def test_a_run_that_evaluated_nothing_is_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs", config("silent", 1, "none"), {}, {})
    assert main(["out=" + str(tmp_path / "out"), str(tmp_path / "runs")]) == 2
    assert "no final evaluation" in capsys.readouterr().err
    text_run(tmp_path / "runs", "none", 1, "none", 0.0)
    assert main(["out=" + str(tmp_path / "out"), str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "left out: silent" in said and "no final evaluation" in said
