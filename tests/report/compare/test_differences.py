"""Differences over shared questions: which questions are the same, values by hand, stars after Holm, the files.

Intervals and p-values are in ``tests/calibration/test_paired.py``."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from carerl.compare import main
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.differences import Difference, match
from carerl.report.compare.tables import question_difference_notes, question_difference_tables
from carerl.runs.find import find_runs, read_run
from carerl.runs.tables import samples_table
from tests.report.compare.test_calibration import arrays, edit_questions
from tests.report.test_run_page import check_page
from tests.runs.synthetic_evaluations import make_text_evaluation

SUITES = ("gsm8k", "truthfulqa")


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models asked the same questions, the second far better."""
    parent = tmp_path_factory.mktemp("evaluations")
    make_text_evaluation(parent, "none_a", sharpness=2.0, skill=-1.0, suites=SUITES, count=60)
    make_text_evaluation(parent, "care_a", sharpness=2.0, skill=1.5, suites=SUITES, count=60, seed=1)
    return parent


def differences(parent: Path) -> Sequence[Difference]:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])]).differences


def copy(evaluations: Path, to: Path) -> Path:
    shutil.copytree(evaluations, to)
    return to


def test_values_are_the_differences_of_the_two_runs(evaluations: Path) -> None:
    found = differences(evaluations)
    assert [(d.row.label, d.baseline.label, d.suite) for d in found] == [("care_a", "none_a", s) for s in SUITES]
    for one in found:
        (c, y), (c0, y0) = (arrays(evaluations / name, one.suite) for name in ("care_a", "none_a"))
        assert one.estimates["brier"].value == pytest.approx(((c - y) ** 2).mean() - ((c0 - y0) ** 2).mean())
        accuracy = [
            run.final[f"eval/{one.suite}/accuracy"] for run in (one.row.runs[0], one.baseline.runs[0])
        ]  # of the runs' own tables
        assert one.estimates["accuracy"].value == pytest.approx(accuracy[0] - accuracy[1])
        assert one.matched == type(one.matched)(one.matched.ids, 0, 0, 0) and len(one.matched.ids) == 60


def test_stars_are_holm_corrected_over_all_tables_together(evaluations: Path) -> None:
    found = differences(evaluations)
    tests = sorted((e.p, one.p_holm[name]) for one in found for name, e in one.estimates.items() if e.p is not None)
    running = 0.0
    for rank, (p, corrected) in enumerate(tests):
        running = max(running, min(1.0, p * (len(tests) - rank)))
        assert corrected == pytest.approx(running)
    assert len(tests) == 8
    for one in found:
        assert one.starred("accuracy"), "a gain of some .3 on 60 questions"
        assert {name for name in one.estimates if one.starred(name)} == {n for n, p in one.p_holm.items() if p < 0.05}
    cells = [cell for table in question_difference_tables(found) for line in table.lines for cell in line[2:]]
    assert sum("*" in cell for cell in cells) == sum(one.starred(name) for one in found for name in one.estimates)
    assert any("over the 8 tests" in note for note in question_difference_notes(found))


def test_questions_match_by_id_and_by_hash() -> None:
    mine = {("gsm8k", "1"): "a", ("gsm8k", "2"): "b", ("gsm8k", "3"): "c", ("math", "1"): "d", ("only", "1"): "e"}
    theirs = {("gsm8k", "1"): "a", ("gsm8k", "2"): "x", ("gsm8k", "4"): "c", ("math", "1"): "d"}
    found = match(mine, theirs, with_prompts=True)
    assert set(found) == {"gsm8k", "math"}
    gsm8k = found["gsm8k"]
    assert (gsm8k.ids, gsm8k.alone, gsm8k.other_alone, gsm8k.changed) == (("1",), 1, 1, 1)
    assert found["math"].ids == ("1",)


def test_without_prompts_one_other_gold_answer_says_that_ids_mean_nothing() -> None:
    """Two worlds of the tiny task have the same ids and one gold answer in ten in common."""
    mine = {("q3", str(k)): str(k % 10) for k in range(30)}
    theirs = {("q3", str(k)): str((k * k + 1) % 10) for k in range(30)}
    found = match(mine, theirs, with_prompts=False)["q3"]
    assert found.ids == () and found.changed == 30
    assert len(match(mine, dict(mine), with_prompts=False)["q3"].ids) == 30


def test_another_prompt_is_another_question(evaluations: Path, tmp_path: Path) -> None:
    """The samples of one model were asked of another in other words; ids and gold answers stay the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parent = copy(evaluations, tmp_path / "runs")
    path = samples_table(parent / "care_a" / "evaluations", 0)
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        if row["example_id"] in {f"gsm8k/{k}" for k in range(7)}:
            row["prompt"] = f"Please. {row['prompt']}"
    pq.write_table(pa.Table.from_pylist(rows), path)
    gsm8k, truthfulqa = differences(parent)
    assert len(gsm8k.matched.ids) == 53 and gsm8k.matched.changed == 7 and len(truthfulqa.matched.ids) == 60
    words = " ".join(question_difference_notes([gsm8k, truthfulqa]))
    assert "GSM8K, care_a: unmatched questions: 7 of one id but not known to have one prompt and gold answer." in words
    assert question_difference_tables([gsm8k])[0].lines[0][1] == "53"


def test_without_samples_questions_are_matched_by_their_gold_answers(evaluations: Path, tmp_path: Path) -> None:
    parent = copy(evaluations, tmp_path / "runs")
    samples_table(parent / "care_a" / "evaluations", 0).unlink()
    assert [len(one.matched.ids) for one in differences(parent)] == [60, 60]
    edit_questions(
        parent / "care_a", lambda row: row | {"gold": "8" if row["example_id"] == "gsm8k/3" else row["gold"]}
    )
    assert [(one.matched.ids, one.matched.changed) for one in differences(parent)] == [((), 60), ((), 60)]


def test_missing_questions_are_counted_and_said(evaluations: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parent = copy(evaluations, tmp_path / "runs")
    for name, gone in (("care_a", range(3)), ("none_a", range(10, 15))):
        path = parent / name / "evaluations" / "step_000000.parquet"
        missing = {f"truthfulqa/{k}" for k in gone}
        kept = [row for row in pq.read_table(path).to_pylist() if row["example_id"] not in missing]
        pq.write_table(pa.Table.from_pylist(kept), path)
    one = differences(parent)[1]
    assert (len(one.matched.ids), one.matched.alone, one.matched.other_alone) == (52, 5, 3)
    assert "unmatched questions: 5 in care_a only, 3 in none_a only." in " ".join(question_difference_notes([one]))


def test_a_row_of_two_seeds_has_differences_over_seeds_and_not_over_questions(
    evaluations: Path, tmp_path: Path
) -> None:
    parent = copy(evaluations, tmp_path / "runs")
    shutil.copytree(parent / "care_a", parent / "again")
    text = (parent / "again" / "config.yaml").read_text()
    (parent / "again" / "config.yaml").write_text(text.replace("\nseed: 0", "\nseed: 1"))
    assert not differences(parent)


def test_the_outputs_have_the_differences(
    evaluations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(evaluations), f"out={out}"]) == 0
    with open(out / "differences.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 and {line["benchmark"] for line in lines} == set(SUITES)
    first = lines[0]
    names = ("method", "baseline", "metric", "questions")
    assert [first[name] for name in names] == ["care_a", "none_a", "accuracy", "60"]
    assert float(first["low"]) < float(first["difference"]) < float(first["high"]) and first["starred"] == "1"
    title = "Differences to none_a over the questions of GSM8K"
    words = " ".join(" ".join(check_page((out / "compare.html").read_text()).text).split())
    assert all(title in text for text in (words, capsys.readouterr().out, (out / "compare.md").read_text()))
    assert title.replace("_", r"\_") in (out / "compare.tex").read_text()
    assert main([str(evaluations), f"out={out}", "baseline=care_a"]) == 0
    with open(out / "differences.csv", newline="") as file:
        turned = next(csv.DictReader(file))
    assert turned["method"] == "none_a" and float(turned["difference"]) == pytest.approx(-float(first["difference"]))
