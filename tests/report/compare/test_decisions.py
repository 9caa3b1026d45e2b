"""Decisions in and out of domain: one table over benchmarks and methods, and which benchmark a run was trained on.

Not covered: how the figures are made (tasks/test_text_evaluation, controller/test_trace_swap)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carerl.report.compare.comparison import Comparison
from carerl.report.compare.decisions import decision_table
from carerl.report.compare.views import views
from carerl.report.evaluation_table import evaluation_rows
from carerl.runs.find import domains, find_runs, read_run
from tests.runs.synthetic_runs import config, make_evaluate, make_run

TRAINED = {"name": "commonsenseqa", "train": "commonsenseqa_train", "benchmarks": ["commonsenseqa", "openbookqa"]}


def figures(shift: float, swapped: bool = False) -> dict[str, float]:
    found = {}
    for k, suite in enumerate(("commonsenseqa", "openbookqa")):
        found |= {
            f"eval/{suite}/accuracy": 0.5 + 0.1 * k + shift,
            f"eval/{suite}/argmax_accuracy": 0.6 + 0.1 * k + shift,
            f"calibration/{suite}/ece": 0.3,
            f"calibration/{suite}/answer_prob_ece_count": 0.2 - 0.1 * k + shift,
        }
        if swapped:
            found[f"eval/{suite}/swap_flips"] = 0.9 + 0.05 * k
    return found


def settings(recipe: str, seed: int = 1, **task: Any) -> dict[str, Any]:
    return {**config(recipe, seed), "task": {**TRAINED, **task}}


def compare(parent: Path) -> Comparison:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])])


def test_benchmarks_stand_below_each_other_with_their_domain(tmp_path: Path) -> None:
    make_run(tmp_path, settings("none"), figures(0.0, swapped=True), {})
    make_run(tmp_path, settings("paper"), figures(0.05), {})
    comparison = compare(tmp_path)
    table = decision_table(comparison)
    assert table is not None
    heads = ["accuracy", "arg-max accuracy", "ECE of p(decision)", "flips"]
    assert table.head == ["method", "benchmark", "trained on", *heads]
    assert table.lines == [
        ["none", "CommonsenseQA", "in domain", "0.500", "0.600", "0.200", "0.900"],
        ["paper", "CommonsenseQA", "in domain", "0.550", "0.650", "0.250", "–"],
        ["none", "OpenBookQA", "out of domain", "0.600", "0.700", "0.100", "0.950"],
        ["paper", "OpenBookQA", "out of domain", "0.650", "0.750", "0.150", "–"],
    ]
    assert table.sources == [["none"], ["paper"]] * 2
    assert [view.title for view in views(comparison)].count("Decisions, in and out of domain") == 1


def test_without_decisions_there_is_no_table(tmp_path: Path) -> None:
    make_run(tmp_path, settings("none"), {"eval/gsm8k/accuracy": 0.8, "calibration/gsm8k/ece": 0.1}, {})
    assert decision_table(compare(tmp_path)) is None


def test_an_evaluation_of_a_checkpoint_is_in_the_domain_of_its_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "trained", settings("paper", train="openbookqa_train"), None)
    model = run / "checkpoints" / "step_000200" / "model"
    model.mkdir(parents=True)
    make_evaluate(tmp_path / "ev", "checkpoint", str(model), figures(0.0))
    make_evaluate(tmp_path / "ev", "hub", "Qwen/Qwen3-4B", figures(0.1))
    table = decision_table(compare(tmp_path / "ev"))
    assert table is not None
    assert [line[:3] for line in table.lines] == [
        ["paper", "CommonsenseQA", "out of domain"],
        ["Qwen/Qwen3-4B", "CommonsenseQA", "–"],
        ["paper", "OpenBookQA", "in domain"],
        ["Qwen/Qwen3-4B", "OpenBookQA", "–"],
    ]


@pytest.mark.parametrize(
    ("task", "inside"),
    [
        (TRAINED, {"commonsenseqa", "validation"}),
        ({"name": "math", "train": "math_train"}, {"math500", "math_test", "validation"}),
        ({"name": "jsonl", "train": "mine/letters.jsonl"}, {"letters", "validation"}),
        ({"name": "tiny", "train_k": 3}, {"q3", "validation"}),
        ({"name": "jsonl", "train": ""}, None),
        ({"name": "of_a_plugin"}, None),
        ({}, None),
    ],
)
def test_in_domain_is_what_is_of_the_data_set_trained_on(task: dict[str, Any], inside: set[str] | None) -> None:
    suites = ("commonsenseqa", "openbookqa", "math500", "math_test", "gsm8k", "letters", "validation", "q3", "q2")
    found = domains({"task": task, "kind": "rl"}, suites)
    if inside is None:
        assert found == {}
    else:
        assert found == {suite: "in domain" if suite in inside else "out of domain" for suite in suites}


def test_a_run_that_began_with_another_runs_model_is_in_the_domain_of_its_own_training(tmp_path: Path) -> None:
    first = make_run(tmp_path, settings("paper", train="openbookqa_train"), None)
    own = {**settings("more"), "model": {"path": str(first / "checkpoints")}}
    (first / "checkpoints").mkdir()
    assert domains(own, ["commonsenseqa", "openbookqa"])["commonsenseqa"] == "in domain"


def test_the_table_of_an_evaluation_says_which_benchmark_was_trained_on() -> None:
    suites, lines = evaluation_rows({"metrics": figures(0.0, swapped=True)}, {"task": TRAINED, "kind": "evaluate"})
    assert suites == ["CommonsenseQA", "OpenBookQA"]
    assert lines == [
        ("trained on", ["in domain", "out of domain"]),
        ("accuracy", ["0.500", "0.600"]),
        ("accuracy of the likeliest option", ["0.600", "0.700"]),
        ("ECE of votes", ["0.300", "0.300"]),
        ("  equal counts", ["0.200", "0.100"]),
        ("flipped by a foreign trace", ["0.900", "0.950"]),
    ]
    assert evaluation_rows({"metrics": figures(0.0)})[1][0][0] == "accuracy", "nothing is said where it is not known"
