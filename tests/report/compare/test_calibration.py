"""Temperature-scaled rows: fitted on validation questions alone, applied to the reported ones, in every output.

The scaling itself is in ``tests/calibration/test_temperature.py``."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, log_expit, logit

from carerl.compare import main
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.tables import calibration_tables, main_tables
from carerl.report.evaluation_table import print_evaluation
from carerl.runs.directory import RunDirectory
from carerl.runs.find import find_runs, read_run
from carerl.runs.tables import read_evaluations, read_questions
from tests.report.test_run_page import check_page
from tests.runs.synthetic_evaluations import make_text_evaluation

SUITES = ("gsm8k", "truthfulqa", "validation")


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overconfident model, one nearer to calibrated, and one without validation questions."""
    parent = tmp_path_factory.mktemp("evaluations")
    make_text_evaluation(parent, "none_a", sharpness=4.0, suites=SUITES, count=50)
    make_text_evaluation(parent, "care_a", sharpness=1.2, suites=SUITES, count=50, seed=1)
    make_text_evaluation(parent, "rkl_a", sharpness=1.2, suites=SUITES[:2], count=50, seed=2)
    return parent


def compared(parent: Path) -> Comparison:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])])


def test_a_comparison_is_whole_from_the_start_and_cannot_change(evaluations: Path) -> None:
    comparison = compared(evaluations)
    assert comparison.evaluated and comparison.differences and any("temperature" in note for note in comparison.notes)
    assert all(row.scaled is not None and row.calibration for row in comparison.rows)
    for thing, name in ((comparison, "notes"), (comparison.rows[0], "scaled"), (comparison.differences[0], "p_holm")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)


def edit_questions(run: Path, change: Any) -> None:
    """Puts ``change(row)`` in place of each row of an evaluation's table."""
    path = run / "evaluations" / "step_000000.parquet"
    pq.write_table(pa.Table.from_pylist([change(dict(row)) for row in pq.read_table(path).to_pylist()]), path)


def arrays(run: Path, suite: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in read_questions(run / "evaluations", 0) if row["suite"] == suite]
    return np.array([row["confidence"] for row in rows]), np.array([row["right"] for row in rows])


def by_search(c: np.ndarray, y: np.ndarray) -> float:
    """The T with the least mean NLL on a grid; 16 votes, so that a share is clipped to 1/32 from 0 and 1."""
    c, y = np.clip(c[c > 0], 1 / 32, 31 / 32), y[c > 0]
    grid = np.exp(np.linspace(np.log(1 / 20), np.log(20), 6001))
    x = logit(c)[None, :] / grid[:, None]
    return float(grid[np.argmax((y * log_expit(x) + (1 - y) * log_expit(-x)).mean(axis=1))])


def test_a_row_is_scaled_by_the_temperature_of_its_own_validation_suite(evaluations: Path) -> None:
    comparison = compared(evaluations)
    for row in comparison.rows:
        if row.label == "rkl_a":
            continue
        assert row.scaled is not None
        ((temperature, count),) = row.scaled.temperatures.values()
        run = evaluations / row.label
        expected = by_search(*arrays(run, "validation"))
        assert temperature.value == pytest.approx(expected, rel=1e-3)
        assert count == int((arrays(run, "validation")[0] > 0).sum())
        c, y = arrays(run, "truthfulqa")
        scaled = np.where(c == 0, 0.0, expit(logit(np.clip(c, 1 / 32, 31 / 32)) / temperature.value))
        after, before = (cells["calibration/truthfulqa/brier"].mean for cells in (row.scaled.cells, row.calibration))
        assert after == pytest.approx(((scaled - y) ** 2).mean())
        assert before == pytest.approx(((c - y) ** 2).mean())
    none = next(row for row in comparison.rows if row.label == "none_a")
    assert none.scaled is not None and none.scaled.temperatures[0][0].value > 1.3, "the overconfident one"


def test_reported_answers_do_not_move_the_temperature_and_validation_answers_do(
    evaluations: Path, tmp_path: Path
) -> None:
    temperatures = []
    for number, flipped in enumerate(("nothing", "gsm8k", "truthfulqa", "validation")):
        run = tmp_path / str(number) / "none_a"
        shutil.copytree(evaluations / "none_a", run)
        edit_questions(
            run, lambda row, f=flipped: row | {"right": 1 - row["right"] if row["suite"] == f else row["right"]}
        )
        row = next(row for row in compared(tmp_path / str(number)).rows if not row.is_base)
        assert row.scaled is not None
        temperatures.append(row.scaled.temperatures[0][0].value)
    assert temperatures[0] == temperatures[1] == temperatures[2] != temperatures[3]


def test_validation_is_no_column_and_no_table(evaluations: Path) -> None:
    comparison = compared(evaluations)
    assert not any("validation" in name for name in comparison.columns)
    assert [table.title for table in calibration_tables(comparison)] == [
        "Calibration on GSM8K",
        "Calibration on TruthfulQA",
    ]


def test_a_question_that_was_fitted_on_is_never_scaled(evaluations: Path, tmp_path: Path) -> None:
    run = tmp_path / "none_a"
    shutil.copytree(evaluations / "none_a", run)
    edit_questions(run, lambda row: row | {"example_id": row["example_id"].replace("validation/", "gsm8k/")})
    comparison = compared(tmp_path)
    row = next(row for row in comparison.rows if not row.is_base)
    assert row.scaled is not None and row.scaled.cells == {} and "were fitted on" in row.scaled.absent
    assert any("absent: temperature: 50 of the questions were fitted on" in note for note in comparison.notes)


def test_without_a_validation_suite_the_row_is_said_to_be_absent_and_the_setting_is_named(evaluations: Path) -> None:
    comparison = compared(evaluations)
    (note,) = [note for note in comparison.notes if "absent" in note]
    assert note.startswith(
        "Temperature-scaled rows of rkl_a: absent: no validation suite; task.validation_questions=200"
    )
    assert not any("rkl_a +" in line[0] for table in main_tables(comparison) for line in table.lines)


def test_silent_questions_keep_confidence_0_and_move_nothing(evaluations: Path, tmp_path: Path) -> None:
    """Another silent validation question for each that there is, and gsm8k silent throughout: T is the same, and a
    suite of nothing but silence has ECE 0 before and after."""
    run = tmp_path / "none_a"
    shutil.copytree(evaluations / "none_a", run)
    path = run / "evaluations" / "step_000000.parquet"
    silence = {"confidence": 0.0, "right": 0.0, "majority": None}
    rows = pq.read_table(path).to_pylist()
    more = [
        row | silence | {"example_id": f"{row['example_id']}/again"} for row in rows if row["suite"] == "validation"
    ]
    rows = [row | silence if row["suite"] == "gsm8k" else row for row in rows]
    pq.write_table(pa.Table.from_pylist(rows + more), path)
    row = next(row for row in compared(tmp_path).rows if not row.is_base)
    assert row.scaled is not None
    ((temperature, count),) = row.scaled.temperatures.values()
    assert temperature.value == pytest.approx(by_search(*arrays(evaluations / "none_a", "validation")), rel=1e-3)
    assert count == 50
    assert row.scaled.cells["calibration/gsm8k/ece"].mean == row.calibration["calibration/gsm8k/ece"].mean == 0.0


def test_the_main_table_has_the_row_beneath_its_method(evaluations: Path) -> None:
    comparison = compared(evaluations)
    paper, _ = main_tables(comparison)
    labels = [line[0] for line in paper.lines]
    place = labels.index("none_a")
    scaled = next(row.scaled for row in comparison.rows if row.label == "none_a")
    assert scaled is not None
    value = scaled.temperatures[0][0].value
    assert labels[place + 1] == f"none_a + temperature (T = {value:.2f}, fitted on validation, n = 50)"
    cells = dict(zip(paper.head, paper.lines[place + 1], strict=True))
    assert cells["GSM8K"] == cells["TruthfulQA"] == "="
    assert cells["ECE TruthfulQA"] == f"{scaled.cells['calibration/truthfulqa/ece'].mean:.3f}"


def test_over_seeds_there_is_one_row_with_a_temperature_each(evaluations: Path, tmp_path: Path) -> None:
    for seed, source in enumerate(("none_a", "care_a"), 1):
        run = tmp_path / f"model-s{seed}"
        shutil.copytree(evaluations / source, run)
        text = (run / "config.yaml").read_text().replace(f"recipe: {source}", "recipe: model")
        text = text.replace(f"models/{source}", "models/model").replace("name: srkl", "name: none")
        (run / "config.yaml").write_text(text.replace("seed: 0", f"seed: {seed}"))
    comparison = compared(tmp_path)
    (row,) = comparison.rows
    assert row.scaled is not None and set(row.scaled.temperatures) == {1, 2}
    low, high = sorted(t.value for t, _ in row.scaled.temperatures.values())
    labels = [line[0] for line in main_tables(comparison)[0].lines]
    assert f"model + temperature (T = {low:.2f}–{high:.2f}, fitted on validation, n = 50)" in labels
    cell = row.scaled.cells["calibration/gsm8k/ece"]
    assert len(cell.values) == 2 and cell.half is not None and cell.questions is None


def test_every_output_has_the_scaled_rows(
    evaluations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(evaluations), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    with open(out / "compare.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    (line,) = [x for x in lines if x["metric"] == "calibration/gsm8k/nll" and x["method"].startswith("none_a +")]
    assert line["interval_over"] == "questions" and line["runs"] == "none_a" and float(line["mean"]) > 0
    label = line["method"]
    assert f"| {label} [" in (out / "compare.md").read_text()
    assert label.replace("_", r"\_") + r"\textsuperscript" in (out / "compare.tex").read_text()
    words = " ".join(" ".join(check_page((out / "compare.html").read_text()).text).split())
    short = label.removeprefix("none_a ")
    assert words.count(short) == 4, "in two main tables and in two of calibration"
    assert "+ temperature (T =" in printed and "Calibration on TruthfulQA" in printed


def test_the_evaluations_own_table_has_the_lines_and_says_the_temperature(evaluations: Path) -> None:
    def printed(name: str) -> str:
        stream = io.StringIO()
        run = RunDirectory(evaluations / name)
        print_evaluation(read_evaluations(run.evaluations)[0], run, stream)
        return stream.getvalue()

    text = printed("none_a")
    c, y = arrays(evaluations / "none_a", "gsm8k")
    t = by_search(*arrays(evaluations / "none_a", "validation"))
    scaled = np.where(c == 0, 0.0, expit(logit(np.clip(c, 1 / 32, 31 / 32)) / t))
    (line,) = [line for line in text.splitlines() if line.strip().startswith("Brier + temperature")]
    assert f"{((scaled - y) ** 2).mean():.3f} [" in line and line.split()[-1] == "–", "not on validation"
    assert f"+ temperature (T = {t:.2f}, fitted on validation, n = 50)" in text
    assert "+ temperature: absent: no validation suite; task.validation_questions=200" in printed("rkl_a")


def test_an_evaluation_by_itself_is_no_base_of_anything(evaluations: Path) -> None:
    summary = json.loads((evaluations / "none_a" / "summary.json").read_text())
    assert summary["base"] == summary["final"], "as carerl.evaluate writes it"
    assert not any(row.is_base for row in compared(evaluations).rows)
