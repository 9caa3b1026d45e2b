"""The list of metrics against the source, and against evaluations made by the tasks themselves.

A real run's metrics.jsonl is compared with it in tests/e2e/test_pipeline.py.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import carerl
from carerl.calibration import measure
from carerl.metrics.names import FAMILIES, GROUPS, MEDIA, METRICS, find_metric, undeclared
from carerl.metrics.table import METRIC_LINES, METRICS_OF_SUITES
from carerl.report.pictures.curves import PANELS
from carerl.tasks import text_evaluation
from carerl.tasks.text_evaluation import PER_SAMPLE
from carerl.types import Outcome

PACKAGE = Path(carerl.__file__).parent
NAME = re.compile(rf"(?:{'|'.join(GROUPS)})/\w+")


def logged_literals(folder: Path) -> set[str]:
    """Whole metric names that stand in the source of what logs: everything but the rooms which only read them. A phase
    of the clock is a metric too."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if path.relative_to(folder).parts[0] in ("report", "metrics", "tracking"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        pieces = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                found.update([node.value] if node not in pieces else [])  # a name's beginning is none
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "phase":
                found.update(f"time/{a.value}" for a in node.args if isinstance(a, ast.Constant))
    return found


def test_every_name_that_is_logged_is_declared_and_every_declared_name_is_logged() -> None:
    assert logged_literals(PACKAGE) == set(METRICS)


def test_a_name_that_is_logged_and_not_declared_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "controller").mkdir()
    (tmp_path / "controller" / "x.py").write_text(
        'log({"train/novel": 1.0})\nwith clock.phase("idle"):\n    pass\ndocument = "train/novel and more"\n'
    )
    assert undeclared(logged_literals(tmp_path)) == ["time/idle", "train/novel"]


def test_what_tables_pictures_and_comparisons_show_is_declared() -> None:
    shown = set(METRIC_LINES) | {name for panel in PANELS for name, _ in panel.lines}
    shown |= {panel.reference[0] for panel in PANELS if panel.reference}
    shown |= {name.replace("/", "/gsm8k/") for name in METRICS_OF_SUITES}
    assert undeclared(shown) == []


def test_names_of_benchmarks_are_those_that_evaluations_make() -> None:
    """What is measured comes from carerl.calibration; the rest stands as keys in text_evaluation."""
    measured = set(measure([0.5, 0.6], [1, 0])) - {"accuracy"}
    of_suites = {name.removeprefix("calibration/{suite}/") for name in FAMILIES if name.startswith("calibration/")}
    by_sample = {
        f"{estimator}_{name}" for estimator in ("mean", "answer_prob", "sequence", "verbalized") for name in PER_SAMPLE
    }
    assert of_suites == measured | by_sample
    keys = {
        node.value
        for node in ast.walk(ast.parse(Path(text_evaluation.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    outcomes = {str(outcome) for outcome in Outcome if outcome is not Outcome.CORRECT}
    for name in FAMILIES:
        if name.startswith("eval/{suite}/"):
            assert name.removeprefix("eval/{suite}/") in keys | outcomes, name


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("eval/accuracy", True), ("eval/accuracy_k4", True), ("eval/accuracy_kx", False), ("eval/gsm8k/pass@16", True),
        ("eval/gsm8k/pass16", False), ("train/entropy_confidence_25", True), ("train/entropy_confidence_10", False),
        ("train/loss_right", False), ("calibration/truthfulqa_2025/mean_ece", True), ("train/entropie", False),
        ("rollout/waves", False), ("eval/a/b/accuracy", False), ("", False),
    ],
)  # fmt: skip
def test_names_are_known_or_not(name: str, known: bool) -> None:
    assert (find_metric(name) is not None) is known


def test_names_and_units_are_fit_to_be_read() -> None:
    for name, metric in {**METRICS, **{n: m for n, (_, m) in FAMILIES.items()}, **MEDIA}.items():
        assert name.split("/")[0] in GROUPS and metric.unit and metric.meaning == metric.meaning.strip()
