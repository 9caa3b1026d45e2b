"""report.html of an evaluation: whole, self-contained, and the figures and samples those of the directory."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carerl.report import write_evaluation_report
from carerl.report.evaluation_page import SHOWN, decision_shares, estimators, outcome_shares, samples
from carerl.report.pictures.evaluation import decision_bars
from carerl.runs.tables import read_evaluations, read_questions, read_sample_texts, samples_table
from tests.report.test_run_page import check_page
from tests.runs.synthetic_evaluations import make_text_evaluation
from tests.runs.synthetic_runs import BASE, make_evaluate
from tests.runs.test_questions import tiny_metrics, tiny_rows

SUITES = ("selfaware", "truthfulqa", "validation")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_evaluation(tmp_path_factory.mktemp("evaluations"), "care_a", suites=SUITES, count=40)


def words_of(run: Path) -> str:
    return " ".join(" ".join(check_page(write_evaluation_report(run).read_text()).text).split())


def test_the_page_is_whole_and_has_every_part(run: Path) -> None:
    path = write_evaluation_report(run)
    page = check_page(path.read_text())
    words = " ".join(" ".join(page.text).split())
    assert path == run / "report.html" and "care_a · evaluation" in words
    (record,) = read_evaluations(run / "evaluations")
    for name in ("eval/selfaware/accuracy", "eval/truthfulqa/hallucination", "calibration/truthfulqa/brier"):
        low, high = record["intervals"].get(name, (None, None))
        shown = f"{record['metrics'][name]:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")
        assert shown in words, name
    for part in ("Outcomes", "Reliability", "Accuracy over coverage", "Estimators of confidence", "Samples"):
        assert part in words
    assert "Asked: 40 of SelfAware, 40 of TruthfulQA, 40 of validation." in words
    assert "Sampled at temperature 1, 16 samples per question, seed 12345." in words
    # outcomes, two reliability diagrams (none of the validation questions) with three states, coverage
    assert page.tags["svg"] == 4
    assert len(re.findall(r"share of the votes ECE 0\.\d+ \+ temperature ECE 0\.\d+ \+ isotonic", words)) == 2
    order = [words.index(f"{label} 0.") for label in ("ECE of votes", "ECE + temperature", "ECE + isotonic")]
    assert order == sorted(order) and order[-1] < words.index("of a perfect model 0."), "under the line they change"
    assert re.search(r"\+ temperature \(T = \d\.\d\d, fitted on validation, n = \d+\); no answer and no order", words)
    assert re.search(r"\+ isotonic \(\d+ levels, fitted on validation, n = \d+\); no answer changes; confid", words)


def test_the_same_directory_has_the_same_page(run: Path) -> None:
    first = write_evaluation_report(run).read_bytes()
    assert write_evaluation_report(run).read_bytes() == first


def test_f1_and_hallucination_have_intervals_that_their_evaluation_lacks(run: Path) -> None:
    (record,) = read_evaluations(run / "evaluations")
    assert "eval/selfaware/f1" not in record["intervals"]
    words = words_of(run)
    for name in ("eval/selfaware/f1", "eval/truthfulqa/hallucination"):
        assert re.search(rf"{record['metrics'][name]:.3f} \[0\.\d+, 0\.\d+\]", words), name


def test_outcome_shares_are_those_of_the_samples(run: Path) -> None:
    shares = outcome_shares(read_questions(run / "evaluations", 0))
    for suite in SUITES:
        found = Counter(row["outcome"] for row in read_sample_texts(run / "evaluations", 0) if row["suite"] == suite)
        assert sum(found.values()) == 640 and sum(shares[suite].values()) == pytest.approx(1)
        assert shares[suite] == pytest.approx({name: found[name] / 640 for name in shares[suite]})


def test_every_estimator_that_was_measured_has_a_line(run: Path) -> None:
    (record,) = read_evaluations(run / "evaluations")
    made = dict(estimators(record, SUITES[:2]))
    assert list(made) == ["SelfAware", "TruthfulQA"]
    lines = made["TruthfulQA"]
    assert [label.split(":")[0] for label, _ in lines] == ["majority", "mean", "sequence", "verbalized"]
    assert lines[0][1][0].startswith(f"{record['metrics']['eval/truthfulqa/maj']:.3f}")
    assert lines[2][1][1] == f"{record['metrics']['calibration/truthfulqa/sequence_ece']:.3f}"
    with_another = {**record, "metrics": record["metrics"] | {"calibration/truthfulqa/answer_prob_ece": 0.125}}
    labels = [label.split(":")[0] for label, _ in dict(estimators(with_another, SUITES[1:2]))["TruthfulQA"]]
    assert labels == ["majority", "mean", "answer_prob", "sequence", "verbalized"]


def test_the_accuracy_of_the_likeliest_option_is_that_of_the_table_above(run: Path) -> None:
    (record,) = read_evaluations(run / "evaluations")
    figures = {"calibration/truthfulqa/argmax_ece": 0.125, "eval/truthfulqa/argmax_accuracy": 0.625}
    for metrics, accuracy in ((figures, "0.625"), ({"calibration/truthfulqa/argmax_ece": 0.125}, "–")):
        made = dict(estimators({**record, "metrics": record["metrics"] | metrics}, SUITES[1:2]))
        (cells,) = (cells for label, cells in made["TruthfulQA"] if label.startswith("argmax"))
        assert cells[:3] == [accuracy, "0.125", "–"]


def test_the_probabilities_of_decisions_are_drawn_where_there_are_any(run: Path, tmp_path: Path) -> None:
    (record,) = read_evaluations(run / "evaluations")
    assert decision_shares(record["metrics"]) == {} and "p(decision)" not in words_of(run)
    shares = [0.1, 0.0, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.05, 0.8]
    metrics = {
        f"calibration/{suite}/decision_bin_{n}": share
        for suite in ("truthfulqa", "openbookqa")
        for n, share in enumerate(shares)
    }
    metrics["calibration/gsm8k/decision_bin_0"] = 1.0  # the other bins are missing
    found = decision_shares(metrics)
    assert found == {"TruthfulQA": shares, "OpenBookQA": shares}
    bars = list(decision_bars(found).figure.axes[0].patches)
    assert [bar.get_height() for bar in bars] == shares * 2
    assert all(k - 0.5 < bar.get_x() < k + 0.5 for k, bar in zip(list(range(11)) * 2, bars, strict=True))
    labels = [label.get_text() for label in decision_bars(found).figure.axes[0].get_xticklabels()]
    assert labels[0] == "0–.1" and labels[-2:] == [".9–.99", ".99–1"]
    place = tmp_path / "drawn"
    shutil.copytree(run, place)
    path = place / "evaluations" / "step_000000.json"
    path.write_text(json.dumps({**record, "metrics": record["metrics"] | metrics}))
    page = check_page(write_evaluation_report(place).read_text())
    assert page.tags["svg"] == 5 and "p(decision), the probability of the option" in " ".join(page.text)


def test_samples_are_of_their_kind_and_the_most_confident(run: Path) -> None:
    rows, questions = read_sample_texts(run / "evaluations", 0), read_questions(run / "evaluations", 0)
    kinds = dict(samples(rows, questions))
    assert list(kinds) == [
        *("Right and confident", "Wrong and confident", "Abstained", "Cut off before an answer", "No answer found")
    ]
    for found in kinds.values():
        assert 1 <= len(found) <= SHOWN
        assert len({row["prompt"] for row in found}) == len(found), "a question once"
    best = {
        suite: max(q["confidence"] for q in questions if q["suite"] == suite and q["right"] == 0) for suite in SUITES
    }
    wrong = kinds["Wrong and confident"]
    assert {row["suite"] for row in wrong} == {"SelfAware", "TruthfulQA", "validation"}, "one benchmark after the other"
    assert wrong[0]["confidence"] == f"{best['selfaware']:.2f}"
    assert all(row["answer"] != row["gold"] for row in wrong)
    assert all(row["answer"] == "?" for row in kinds["Abstained"])
    assert all(row["answer"] == "–" and "The answer is" not in row["response"] for row in kinds["No answer found"])


def test_what_a_model_writes_is_text_and_is_cut_in_the_middle(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "care_a"
    shutil.copytree(run, copy)
    path = samples_table(copy / "evaluations", 0)
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["response"] = "<script>alert(1)</script><img src=x onerror=y>{{ 7*7 }}" + "x" * 5000 + "the end"
    pq.write_table(pa.Table.from_pylist(rows), path)
    text = write_evaluation_report(copy).read_text()
    page = check_page(text)
    assert page.tags["img"] == 0 and "<script>alert(1)</script>" in "".join(page.text)
    assert "{{ 7*7 }}" in "".join(page.text) and text.count("x" * 700) == 0 and "the end" in text


def test_secrets_of_the_settings_are_not_on_the_page(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "care_a"
    shutil.copytree(run, copy)
    config = (copy / "config.yaml").read_text().replace("models/care_a", "s3://me:hunter2@store/model")
    (copy / "config.yaml").write_text(config)
    text = write_evaluation_report(copy).read_text()
    assert "hunter2" not in text and "store/model" in text


def test_without_samples_questions_or_an_end_the_page_says_what_there_is(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "care_a"
    shutil.copytree(run, copy)
    samples_table(copy / "evaluations", 0).unlink()
    words = words_of(copy)
    assert "Right and confident" not in words and "Reliability" in words
    (copy / "evaluations" / "step_000000.parquet").unlink()
    words = words_of(copy)
    assert "no table of questions" in words and "Reliability" not in words and "Metrics" in words
    (copy / "evaluations" / "step_000000.json").unlink()
    assert "This evaluation has not ended" in words_of(copy)


def test_a_model_that_never_answers_has_a_page(tmp_path: Path) -> None:
    """As an untrained model on real questions: every sample is cut off."""
    rows = [
        {
            "suite": "gsm8k",
            "example_id": f"gsm8k/{k}",
            "gold": "7",
            "majority": None,
            "confidence": 0.0,
            "right": 0.0,
            "samples": 2,
            "correct": 0,
            "wrong": 0,
            "abstained": 0,
            "unparsed": 0,
            "truncated": 2,
            "invalid": 0,
        }
        for k in range(3)
    ]
    metrics = {"eval/gsm8k/accuracy": 0.0, "eval/gsm8k/answered": 0.0, "calibration/gsm8k/ece": 0.0}
    run = make_evaluate(tmp_path, "bytes", "base_bytes", metrics, rows=rows)
    words = words_of(run)
    assert "No sample of GSM8K has an answer: of nothing there is no calibration." in words
    assert "ECE of votes" not in words and "Reliability" not in words and "100 %" in words


def test_an_evaluation_of_the_tiny_world_has_a_page_with_intervals(tmp_path: Path) -> None:
    rows = tiny_rows()
    run = make_evaluate(tmp_path, "tiny", "runs/x", tiny_metrics(rows), rows=rows)
    config = (run / "config.yaml").read_text() + "task:\n  name: tiny\n  train_k: 3\n"
    (run / "config.yaml").write_text(config)
    words = words_of(run)
    value = tiny_metrics(rows)["eval/maj"]
    assert re.search(rf"maj@N {value:.3f} \[0\.\d+, 0\.\d+\]", words)
    assert "UNKNOWABLE F1 0.811 [" in words and "of an ECE is of the debiased estimate" in words
    assert "absent: no validation suite; task tiny has no setting that makes one." in words
    assert json.loads((run / "summary.json").read_text())["final"].keys() != BASE.keys()
