"""Rows after post-hoc calibration: fitted on validation questions alone, applied to the reported ones, in every output.

The scalers are tested in ``tests/calibration``, and what is fitted on in ``tests/report/test_posthoc.py``."""

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

from carerl.calibration import Temperature, ece, fit_isotonic
from carerl.compare import main
from carerl.report import write_evaluation_report
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.decisions import decision_table
from carerl.report.compare.rows import Row, Scaled
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


def scaled_by(row: Row, scaler: str, estimator: str = "majority") -> Scaled:
    fits = [(scaled, next(iter(scaled.fits.values()))) for scaled in row.scaled]
    return next(s for s, fit in fits if (fit.scaler.name, fit.estimator) == (scaler, estimator))


def temperature_of(row: Row, seed: int = 0) -> float:
    calibrator = scaled_by(row, "temperature").fits[seed].calibrator
    assert isinstance(calibrator, Temperature)
    return calibrator.value


def test_a_comparison_is_whole_from_the_start_and_cannot_change(evaluations: Path) -> None:
    comparison = compared(evaluations)
    assert comparison.evaluated and comparison.differences and any("temperature" in note for note in comparison.notes)
    assert all(row.calibration for row in comparison.rows)
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


def test_a_row_is_scaled_by_what_was_fitted_on_its_own_validation_suite(evaluations: Path) -> None:
    comparison = compared(evaluations)
    for row in comparison.rows:
        if row.label == "rkl_a":
            continue
        run = evaluations / row.label
        temperature, held = temperature_of(row), arrays(run, "validation")
        assert temperature == pytest.approx(by_search(*held), rel=1e-3)
        c, y = arrays(run, "truthfulqa")
        maps = {
            "temperature": np.where(c == 0, 0.0, expit(logit(np.clip(c, 1 / 32, 31 / 32)) / temperature)),
            "isotonic": fit_isotonic(*held, ["validation"]).apply(c, ["truthfulqa"]),
        }
        for name, expected in maps.items():
            scaled = scaled_by(row, name)
            assert scaled.fits[0].questions == int((held[0] > 0).sum())
            assert scaled.cells["calibration/truthfulqa/brier"].mean == pytest.approx(((expected - y) ** 2).mean())
        assert row.calibration["calibration/truthfulqa/brier"].mean == pytest.approx(((c - y) ** 2).mean())
    none = next(row for row in comparison.rows if row.label == "none_a")
    assert temperature_of(none) > 1.3, "the overconfident one"


def test_reported_answers_move_no_fit_and_validation_answers_do(evaluations: Path, tmp_path: Path) -> None:
    temperatures, maps = [], []
    for number, flipped in enumerate(("nothing", "gsm8k", "truthfulqa", "validation")):
        run = tmp_path / str(number) / "none_a"
        shutil.copytree(evaluations / "none_a", run)
        edit_questions(
            run, lambda row, f=flipped: row | {"right": 1 - row["right"] if row["suite"] == f else row["right"]}
        )
        row = next(row for row in compared(tmp_path / str(number)).rows if not row.is_base)
        temperatures.append(temperature_of(row))
        maps.append(scaled_by(row, "isotonic").fits[0].calibrator)
    assert temperatures[0] == temperatures[1] == temperatures[2] != temperatures[3]
    assert maps[0] == maps[1] == maps[2] != maps[3]


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
    assert row.scaled == () and "were fitted on" in row.unscaled
    assert any("absent: 50 of the questions were fitted on" in note for note in comparison.notes)


def test_without_a_validation_suite_the_row_is_said_to_be_absent_and_the_setting_is_named(evaluations: Path) -> None:
    comparison = compared(evaluations)
    (note,) = [note for note in comparison.notes if "absent" in note]
    assert note.startswith(
        "Rows + temperature, + isotonic of rkl_a: absent: no validation suite; task.validation_questions=200"
    )
    assert not any("rkl_a +" in line[0] for table in main_tables(comparison) for line in table.lines)


def test_silent_questions_keep_confidence_0_and_move_nothing(evaluations: Path, tmp_path: Path) -> None:
    """Another silent validation question for each that there is, and gsm8k silent throughout: T and the isotonic map
    are the same, and a suite of nothing but silence has ECE 0 before and after."""
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
    plain = next(row for row in compared(evaluations).rows if row.label == "none_a")
    assert temperature_of(row) == temperature_of(plain)
    silent, spoken = (scaled_by(one, "isotonic").fits[0].calibrator for one in (row, plain))
    assert silent.apply([0.1, 0.5, 0.9], ["x"]).tolist() == spoken.apply([0.1, 0.5, 0.9], ["x"]).tolist()
    for scaled in row.scaled:
        assert scaled.fits[0].questions == 50
        assert scaled.cells["calibration/gsm8k/ece"].mean == row.calibration["calibration/gsm8k/ece"].mean == 0.0


def test_the_main_table_has_the_rows_beneath_their_method(evaluations: Path) -> None:
    comparison = compared(evaluations)
    paper, _ = main_tables(comparison)
    labels = [line[0] for line in paper.lines]
    place = labels.index("none_a")
    none = next(row for row in comparison.rows if row.label == "none_a")
    levels = len(set(fit_isotonic(*arrays(evaluations / "none_a", "validation"), ["validation"]).values))
    assert labels[place + 1 : place + 3] == [
        f"none_a + temperature (T = {temperature_of(none):.2f}, fitted on validation, n = 50)",
        f"none_a + isotonic ({levels} levels, fitted on validation, n = 50)",
    ]
    for below, name in enumerate(("temperature", "isotonic"), place + 1):
        cells = dict(zip(paper.head, paper.lines[below], strict=True))
        assert cells["GSM8K"] == cells["TruthfulQA"] == "=" and below in paper.scaled
        assert cells["ECE TruthfulQA"] == f"{scaled_by(none, name).cells['calibration/truthfulqa/ece'].mean:.3f}"
    table = next(table for table in calibration_tables(comparison) if table.title == "Calibration on TruthfulQA")
    place = [line[0] for line in table.lines].index("none_a")
    plain, temperature, isotonic = (dict(zip(table.head, line, strict=True)) for line in table.lines[place : place + 3])
    assert temperature["AUROC"] == temperature["majority right"] == isotonic["majority right"] == "="
    assert float(isotonic["AUROC"][:5]) != float(plain["AUROC"][:5])


def test_over_seeds_there_is_one_row_with_a_temperature_each(evaluations: Path, tmp_path: Path) -> None:
    for seed, source in enumerate(("none_a", "care_a"), 1):
        run = tmp_path / f"model-s{seed}"
        shutil.copytree(evaluations / source, run)
        text = (run / "config.yaml").read_text().replace(f"recipe: {source}", "recipe: model")
        text = text.replace(f"models/{source}", "models/model").replace("name: srkl", "name: none")
        (run / "config.yaml").write_text(text.replace("seed: 0", f"seed: {seed}"))
    comparison = compared(tmp_path)
    (row,) = comparison.rows
    assert [set(scaled.fits) for scaled in row.scaled] == [{1, 2}, {1, 2}]
    low, high = sorted(temperature_of(row, seed) for seed in (1, 2))
    labels = [line[0] for line in main_tables(comparison)[0].lines]
    assert f"model + temperature (T = {low:.2f}–{high:.2f}, fitted on validation, n = 50)" in labels
    for scaled in row.scaled:
        cell = scaled.cells["calibration/gsm8k/ece"]
        assert len(cell.values) == 2 and cell.half is not None and cell.questions is None


def test_every_output_has_the_scaled_rows(
    evaluations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(evaluations), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    with open(out / "compare.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    found = [x for x in lines if x["metric"] == "calibration/gsm8k/nll" and x["method"].startswith("none_a +")]
    words = " ".join(" ".join(check_page((out / "compare.html").read_text()).text).split())
    for line, start in zip(found, ("none_a + temperature (T =", "none_a + isotonic ("), strict=True):
        assert line["interval_over"] == "questions" and line["runs"] == "none_a" and float(line["mean"]) > 0
        label = line["method"]
        assert label.startswith(start) and start.removeprefix("none_a ") in printed
        assert f"| {label} [" in (out / "compare.md").read_text()
        assert label.replace("_", r"\_") + r"\textsuperscript" in (out / "compare.tex").read_text()
        short = label.removeprefix("none_a ")
        rows = {x["method"] for x in lines if x["method"].endswith(short)}
        assert words.count(short) == 4 * len(rows), "in two main tables and in two of calibration"
    assert "Calibration on TruthfulQA" in printed
    aurocs = [x["method"] for x in lines if x["metric"] == "calibration/gsm8k/auroc" and "none_a" in x["method"]]
    assert len(aurocs) == 2 and "isotonic" in aurocs[1], "a temperature does not change it, and has no line"


def printed(run: Path) -> str:
    stream, directory = io.StringIO(), RunDirectory(run)
    print_evaluation(read_evaluations(directory.evaluations)[0], directory, stream)
    return stream.getvalue()


def cells_of(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(label)]
    return line.strip().removeprefix(label).split()


def test_the_evaluations_own_table_has_the_lines_and_says_what_was_fitted(evaluations: Path) -> None:
    text = printed(evaluations / "none_a")
    c, y = arrays(evaluations / "none_a", "gsm8k")
    t = by_search(*arrays(evaluations / "none_a", "validation"))
    scaled = np.where(c == 0, 0.0, expit(logit(np.clip(c, 1 / 32, 31 / 32)) / t))
    isotonic = fit_isotonic(*arrays(evaluations / "none_a", "validation"), ["validation"])
    for name, expected in (("temperature", scaled), ("isotonic", isotonic.apply(c, ["gsm8k"]))):
        cells = cells_of(text, f"Brier + {name}")
        assert cells[0] == f"{((expected - y) ** 2).mean():.3f}" and cells[-1] == "–", "not on validation"
    assert f"+ temperature (T = {t:.2f}, fitted on validation, n = 50); no answer and no order changes." in text
    assert f"+ isotonic ({isotonic.levels} levels, fitted on validation, n = 50); no answer changes;" in text
    assert "AUROC + isotonic" in text and "AUROC + temperature" not in text and "option" not in text
    absent = "+ temperature, + isotonic: absent: no validation suite; task.validation_questions=200"
    assert absent in " ".join(printed(evaluations / "rkl_a").split())


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Multiple choice: an overconfident model whose samples have decisions."""
    suites = ("commonsenseqa", "openbookqa", "validation")
    return make_text_evaluation(
        tmp_path_factory.mktemp("choices"), "none_c", sharpness=3.0, suites=suites, count=60, decisions=True
    )


def decisions(run: Path, suite: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in read_questions(run / "evaluations", 0) if row["suite"] == suite]
    probs, rights = ([x or 0.0 for row in rows for x in row[f"{kind}_{name}"]] for name in ("probs", "rights"))
    return np.array(probs), np.array(rights)


def test_decisions_have_their_lines_in_the_evaluations_table_and_page(choices: Path) -> None:
    text = printed(choices)
    metrics = read_evaluations(choices / "evaluations")[0]["metrics"]
    c, y = decisions(choices, "openbookqa", "decision")
    calibrator = fit_isotonic(*decisions(choices, "validation", "decision"), ["validation"])
    after = calibrator.apply(c, ["openbookqa"])
    assert metrics["calibration/openbookqa/answer_prob_brier"] == pytest.approx(((c - y) ** 2).mean())
    cells = cells_of(text, "Brier of option probability + isotonic")
    assert cells[3::3] == [f"{((after - y) ** 2).mean():.3f}", "–"], "behind a figure and its interval"
    assert "(answer_prob, T = " in text and f"+ isotonic (answer_prob, {calibrator.levels} levels, fitted" in text
    words = " ".join(" ".join(check_page(write_evaluation_report(choices).read_text()).text).split())
    order = [words.index(f"ECE of option probability{end}") for end in (" 0.", " + temperature 0.", " + isotonic 0.")]
    assert order == sorted(order), "each under the line that it changes"
    assert words.index("Brier of option probability 0.") > order[-1]


def test_decisions_have_their_tables_in_a_comparison(choices: Path) -> None:
    comparison = compared(choices)
    titles = [table.title for table in calibration_tables(comparison)]
    expected = [f"Calibration on {name}" for name in ("CommonsenseQA", "OpenBookQA")]
    assert titles == [f"{title}{by}" for title in expected for by in ("", ", by answer_prob", ", by argmax")]
    (row,) = comparison.rows
    for estimator, kind in (("answer_prob", "decision"), ("argmax", "argmax")):
        c, y = decisions(choices, "openbookqa", kind)
        after = fit_isotonic(*decisions(choices, "validation", kind), ["validation"]).apply(c, ["openbookqa"])
        name = f"calibration/openbookqa/{estimator}_brier"
        assert row.calibration[name].mean == pytest.approx(((c - y) ** 2).mean())
        assert scaled_by(row, "isotonic", estimator).cells[name].mean == pytest.approx(((after - y) ** 2).mean())
        title = f"Calibration on OpenBookQA, by {estimator}"
        table = next(table for table in calibration_tables(comparison) if table.title == title)
        lines = [dict(zip(table.head, line, strict=True)) for line in table.lines]
        methods = [line["method"].split(" (")[0] for line in lines]
        assert methods == ["none_c", "none_c + temperature", "none_c + isotonic"]
        assert lines[1]["accuracy"] == lines[2]["accuracy"] == "=" and f"({estimator}, " in lines[2]["method"]
        assert lines[2]["Brier"].startswith(f"{((after - y) ** 2).mean():.3f} [")
        assert list(table.scaled) == [1, 2]
    accuracy = [row.calibration[f"calibration/openbookqa/{name}_accuracy"].mean for name in ("answer_prob", "argmax")]
    assert accuracy[0] != accuracy[1], "one decision in six was not the likeliest"


def test_the_table_of_decisions_has_their_calibrated_rows(choices: Path) -> None:
    table = decision_table(compared(choices))
    assert table is not None
    lines = [dict(zip(table.head, line, strict=True)) for line in table.lines]
    ways = ["none_c", "none_c + temperature", "none_c + isotonic"]
    assert [line["method"].split(" (")[0] for line in lines] == ways * 2, "none of a confidence that is not p(decision)"
    assert [line["benchmark"] for line in lines] == ["CommonsenseQA"] * 3 + ["OpenBookQA"] * 3
    assert list(table.scaled) == [1, 2, 4, 5] and table.sources == [["none_c"]] * 6
    for suite, own in (("commonsenseqa", lines[2]), ("openbookqa", lines[5])):
        c, y = decisions(choices, suite, "decision")
        after = fit_isotonic(*decisions(choices, "validation", "decision"), ["validation"]).apply(c, [suite])
        assert own["ECE of p(decision)"] == f"{ece(after, y, scheme='count'):.3f}"
        assert "(answer_prob, " in own["method"]
    assert all(line["accuracy"] == line["arg-max accuracy"] == "=" for k, line in enumerate(lines) if k % 3)


def test_an_evaluation_by_itself_is_no_base_of_anything(evaluations: Path) -> None:
    summary = json.loads((evaluations / "none_a" / "summary.json").read_text())
    assert summary["base"] == summary["final"], "as carerl.evaluate writes it"
    assert not any(row.is_base for row in compared(evaluations).rows)
