"""Intervals over the questions of one run: against the functions that they come from, and where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carerl.calibration import debiased_ece, ece, wilson
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.tables import main_tables, notes
from carerl.runs.find import find_runs, read_run
from carerl.runs.questions import asked, intervals, reported
from carerl.tasks.estimates import unanswerable_interval
from tests.runs.synthetic_runs import config, make_evaluation, make_run

TINY = {"task": {"name": "tiny", "train_k": 3}}


def tiny_rows(seed: int = 0) -> list[dict[str, Any]]:
    """A table of the tiny world's: 60 questions of 3 steps, 40 facts with known probabilities, 40 unknown names. One
    vote in ten or so is silent."""
    rng = np.random.default_rng(seed)
    rows = []
    for suite, count in (("q3", 60), ("facts", 40), ("unknowable", 40)):
        for k in range(count):
            right = int(rng.integers(0, 15))
            said = (suite == "unknowable" and k % 4 > 0) or (suite == "facts" and k % 10 == 0)
            share = max(right, 15 - right) / 16
            truth = {"q3": float(right > 7), "facts": float(rng.random()), "unknowable": float(said)}[suite]
            counts = {"correct": right, "wrong": 15 - right, "abstained": 0, "unparsed": 1, "truncated": 0}
            rows.append(
                {
                    "suite": suite,
                    "example_id": f"{suite}/{k}",
                    "gold": str(k % 10),
                    "majority": "?" if said else "3",
                    "confidence": share,
                    "right": truth,
                    "samples": 16,
                    **counts,
                }
            )
    return rows


def tiny_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    found = asked(rows)
    q3, facts = found["q3"], found["facts"]
    assert q3.accuracy is not None
    hits, claims = 30, 30 + 4  # three of four unknown names, and one in ten facts
    return {
        "eval/accuracy": float(q3.accuracy.mean()),
        "eval/maj": float(q3.right.mean()),
        "calibration/facts_ece": ece(facts.confidence, facts.right),
        "calibration/question_ece": ece(q3.confidence, q3.right),
        "calibration/unknowable_f1": 2 * hits / (claims + 40),
        "calibration/answer_ece": 0.02,
        "eval/entropy": 0.1,
    }


def test_every_metric_that_questions_determine_has_its_own_interval() -> None:
    rows = tiny_rows()
    metrics = tiny_metrics(rows)
    found = intervals(rows, metrics, TINY)
    assert set(found) == set(metrics) - {"calibration/answer_ece", "eval/entropy"}
    q3 = asked(rows)["q3"]
    majority = wilson(metrics["eval/maj"], 60)
    assert found["eval/maj"] == pytest.approx((majority.low, majority.high))
    debiased = debiased_ece(q3.confidence, q3.right)
    assert found["calibration/question_ece"] == (debiased.low, debiased.high)
    low, high = found["calibration/unknowable_f1"]
    assert low < metrics["calibration/unknowable_f1"] < high < 1


def test_a_figure_of_other_questions_has_no_interval() -> None:
    rows = tiny_rows()
    metrics = {**tiny_metrics(rows), "eval/maj": 0.9}
    assert "eval/maj" not in intervals(rows, metrics, TINY)
    assert "eval/accuracy" not in intervals(rows, metrics, {"task": {"name": "tiny", "train_k": 4}})
    assert intervals([], metrics, TINY) == {}


def test_the_interval_of_f1_covers() -> None:
    """200 evaluations of 120 questions, half of them unanswerable: called in .7 of these and in .2 of the others. Hits
    are .35 of all, claims .35 + .1, and .5 are there to find."""
    truth, hits = 2 * 0.35 / (0.45 + 0.5), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        nobody = rng.random(120) < 0.5
        called = rng.random(120) < np.where(nobody, 0.7, 0.2)
        flags = zip(nobody, called, strict=True)
        found = unanswerable_interval([{"answerable": not n, "majority": "?" if c else "1"} for n, c in flags])
        hits += truth in found
    assert 0.90 <= hits / 200 <= 0.99


def test_f1_of_nothing_to_find_and_nothing_claimed_is_not_defined() -> None:
    assert np.isnan(unanswerable_interval([{"answerable": True, "majority": "1"}] * 5).value)
    assert np.isnan(unanswerable_interval([]).value)


def test_validation_questions_are_not_reported() -> None:
    rows = [
        {"suite": s, "example_id": f"{s}/1", "confidence": 0.5, "right": 1.0} for s in ("gsm8k", "validation", "q2")
    ]
    assert list(reported(rows, ["gsm8k", "validation"])) == ["gsm8k"]
    assert list(reported(rows, [])) == ["gsm8k", "q2"]


def test_one_run_of_the_tiny_world_has_intervals_over_questions_and_two_seeds_over_seeds(tmp_path: Path) -> None:
    for recipe, regularizer, seeds in (("none", "none", (1,)), ("care", "srkl", (1, 2))):
        for seed in seeds:
            rows = tiny_rows(seed)
            settings = config(recipe, seed, regularizer)
            run = make_run(tmp_path, settings, tiny_metrics(rows), tiny_metrics(tiny_rows(9)))
            make_evaluation(run, 0, tiny_metrics(tiny_rows(9)), rows=tiny_rows(9))
            make_evaluation(run, 200, tiny_metrics(rows), rows=rows)
    comparison = Comparison.of([read_run(path) for path in find_runs([str(tmp_path)])])
    none, care = (next(row for row in comparison.rows if row.label == name) for name in ("none", "care"))
    expected = intervals(tiny_rows(1), tiny_metrics(tiny_rows(1)), TINY)
    assert {name: cell.questions for name, cell in none.cells.items() if cell.questions} == expected
    assert none.cells["eval/entropy"].bounds is None
    assert all(cell.questions is None and cell.half is not None for cell in care.cells.values())
    words = " ".join(notes(comparison))
    assert "interval over the questions of a single run" in words and "of the debiased estimate" in words
    (table,) = main_tables(comparison)
    line = next(line for line in table.lines if line[0] == "none")
    assert line[2].count("[") == 1 and "±" not in line[2]


def test_the_base_of_one_seed_has_the_intervals_of_its_own_evaluation(tmp_path: Path) -> None:
    for recipe, regularizer in (("none", "none"), ("care", "srkl")):
        rows, before = tiny_rows(1), tiny_rows(9)
        run = make_run(tmp_path, config(recipe, 1, regularizer), tiny_metrics(rows), tiny_metrics(before))
        make_evaluation(run, 0, tiny_metrics(before), rows=before)
        make_evaluation(run, 200, tiny_metrics(rows), rows=rows)
    comparison = Comparison.of([read_run(path) for path in find_runs([str(tmp_path)])])
    base = comparison.rows[0]
    assert (
        base.is_base and base.cells["eval/maj"].questions == intervals(before, tiny_metrics(before), TINY)["eval/maj"]
    )


def test_samples_with_decisions_are_read_beside_the_majority() -> None:
    """A probability of None is a confidence of 0; a sample that nobody knows to be right or wrong does not count."""
    lists = [([0.9, None, 0.4], [1.0, 0.0, None]), ([0.2, 0.7, 0.8], [0.25, 1.0, 0.0])]
    rows = [
        {"suite": "s", "example_id": name, "confidence": 0.5, "right": 1.0, "decision_probs": p, "decision_rights": r}
        for name, (p, r) in zip("ab", lists, strict=True)
    ]
    found = asked(rows)["s"].decided
    assert list(found) == ["answer_prob"], "no row has the lists of the likeliest options"
    judged = found["answer_prob"]
    assert judged.confidence.tolist() == [0.9, 0.0, 0.2, 0.7, 0.8] and judged.votes == 0
    assert judged.correct.tolist() == [1.0, 0.0, 0.25, 1.0, 0.0]
    assert judged.questions == ("a", "a", "b", "b", "b")
    assert asked([row | {"decision_probs": None} for row in rows])["s"].decided == {}, "a table of another suite's"
