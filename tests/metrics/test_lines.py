"""The table of metrics against the source, and against what the tasks' evaluations make.

A real run's metrics.jsonl is compared with it in tests/e2e/test_pipeline.py.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import carerl
from carerl.calibration import ESTIMATORS, measure
from carerl.loss.strata import COEFFICIENT_BINS, STRATA
from carerl.metrics import METRICS, At, Metric, declare
from carerl.metrics.table import GROUPS, find_metric, metric_line, names_in, shown_in, views_of
from carerl.tasks import text_evaluation, text_metrics
from carerl.tasks.text_metrics import per_sample
from carerl.types import Outcome
from tests.metrics.declared import undeclared

PACKAGE = Path(carerl.__file__).parent
NAME = re.compile(rf"(?:{'|'.join(GROUPS)})/\w+")


def named(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Metric"


def literals(folder: Path, lines: bool = False) -> dict[str, set[str]]:
    """Whole metric names that stand in the source, with their files. ``lines``: those in the table's lines, which are
    left out otherwise. A phase of the clock is a metric too."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        table = {part for node in ast.walk(tree) if named(node) for part in ast.walk(node)}
        pieces = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                if node not in pieces and (node in table) is lines:  # a name's beginning is none
                    found.setdefault(node.value, set()).add(path.relative_to(folder).as_posix())
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "phase":
                for phase in node.args:
                    if isinstance(phase, ast.Constant) and not lines:
                        found.setdefault(f"time/{phase.value}", set()).add(path.relative_to(folder).as_posix())
    return found


def test_every_name_that_is_logged_is_declared_and_every_declared_name_is_logged() -> None:
    others = {view for metric in METRICS.values() for view in metric.shown} | {"rollout/table"}  # a table of W&B's
    found = {name: files for name, files in literals(PACKAGE).items() if name not in others}
    logged = {name for name, files in found.items() if not all(file.startswith("report/") for file in files)}
    assert undeclared(found) == []
    split = {f"{metric.name}_{stratum}" for metric in shown_in("strata") for stratum in STRATA}
    bins = {f"regularizer/coefficient_bin_{name}" for name in COEFFICIENT_BINS}
    assert logged == {name for name, metric in METRICS.items() if not metric.template} - split - bins


def test_a_line_stands_in_one_place() -> None:
    """A name is a literal in its line, where it is logged, and where a file computes with this very metric."""
    lines, others = literals(PACKAGE, lines=True), literals(PACKAGE)
    assert all(len(files) == 1 for files in lines.values())
    plain = [name for name, metric in METRICS.items() if not metric.template and name in lines]
    assert len(plain) > 50
    assert sum(1 + len(others.get(name, ())) for name in plain) / len(plain) < 2.5


def test_a_name_that_is_logged_and_not_declared_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "controller").mkdir()
    (tmp_path / "controller" / "x.py").write_text(
        'log({"train/novel": 1.0})\nwith clock.phase("idle"):\n    pass\ndocument = "train/novel and more"\n'
    )
    assert undeclared(literals(tmp_path)) == ["time/idle", "train/novel"]


def test_names_of_benchmarks_are_those_that_evaluations_make() -> None:
    """What is measured comes from carerl.calibration; the rest stands as keys in text_evaluation."""
    measured = set(measure([0.5, 0.6], [1, 0])) - {"accuracy"}
    lines = {metric.name: metric.kind for metric in text_metrics.METRICS}
    of_suites = {kind for name, kind in lines.items() if name.startswith("calibration/")}
    over_samples = [estimator for estimator in ESTIMATORS if estimator != "majority"]
    by_sample = {f"{estimator}_{name}" for estimator in over_samples for name in per_sample(estimator)}
    assert of_suites == measured | by_sample | {"decision_bin_{n}"}
    keys = {
        node.value
        for node in ast.walk(ast.parse(Path(text_evaluation.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    outcomes = {str(outcome) for outcome in Outcome if outcome is not Outcome.CORRECT}
    for name, kind in lines.items():
        if name.startswith("eval/"):
            assert kind not in of_suites, "one figure has one name"
            assert kind in keys | outcomes | {"pass@{n}"}, name


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("eval/accuracy", True), ("eval/accuracy_k4", True), ("eval/accuracy_kx", False), ("eval/gsm8k/pass@16", True),
        ("eval/gsm8k/pass16", False), ("train/entropy_confidence_25", True), ("train/entropy_confidence_10", False),
        ("train/loss_right", False), ("calibration/truthfulqa_2025/mean_ece", True), ("train/entropie", False),
        ("eval/my-file.v2/maj", True), ("rollout/waves", False), ("eval/a/b/accuracy", False), ("", False),
    ],
)  # fmt: skip
def test_names_are_known_or_not(name: str, known: bool) -> None:
    assert (find_metric(name) is not None) is known


def test_a_line_of_many_suites_is_called_by_its_suite() -> None:
    assert metric_line("eval/math500/maj").label == "MATH-500 maj@N"
    assert metric_line("calibration/my-file/ece").short == "ECE my-file"
    assert metric_line("eval/accuracy_k4").label == "accuracy, 4 steps"
    assert metric_line("eval/gsm8k/answered").label == "eval/gsm8k/answered"  # a line without a label


def test_names_and_units_are_fit_to_be_read() -> None:
    for name, metric in METRICS.items():
        assert name.split("/")[0] in GROUPS and metric.unit and metric.meaning == metric.meaning.strip()
    for view in ("step", "headline"):  # the live panel has no more room
        assert max(len(metric.short) for metric in shown_in(view)) <= 10


def test_views_have_an_order_of_their_own() -> None:
    assert names_in("step")[:4] == ["rollout/reward", "rollout/accuracy", "regularizer/reverse_kl", "train/entropy"]
    assert names_in("headline")[1:4] == ["eval/maj", "calibration/facts_ece", "calibration/answer_ece"]
    assert names_in("summary", ["eval/accuracy_k4", "eval/accuracy_k2"])[1:4] == [
        "eval/maj", "eval/accuracy_k2", "eval/accuracy_k4",
    ]  # fmt: skip
    assert {"loss", "ece", "entropy_split"} <= set(views_of("curves"))


def test_a_line_of_a_place_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train/novel: nothing is shown in 'curve/loss'.*headline"):
        declare(Metric("train/novel", "1", "new", shown={"curve/loss": At()}))
    assert "train/novel" not in METRICS


def test_a_second_line_of_one_name_is_refused() -> None:
    declare(METRICS["train/lr"])  # the same line, as by a module that is loaded again
    with pytest.raises(ValueError, match="train/lr is declared already"):
        declare(Metric("train/lr", "1", "another rate"))
    assert METRICS["train/lr"].meaning == "learning rate"
