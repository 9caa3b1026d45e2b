"""The W&B workspace and report: made without a network, of metrics that runs log and nothing else.

That a real run logs the declared names is in tests/e2e/test_pipeline.py; how the app draws panels is not covered.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from carerl import dashboard
from carerl.config.load import load
from carerl.config.reading import compose
from carerl.config.reading.typed import plain
from carerl.config.sweep import row_words
from carerl.loss.strata import COEFFICIENT_BINS
from carerl.runs.redaction import public_config
from carerl.runs.tables import write_evaluation
from carerl.tracking.wandb_content import method
from carerl.tracking.workspace import (
    BY,
    Bars,
    as_json,
    declared_names,
    logged_names,
    make_report,
    make_workspace,
    references,
    sections,
)
from tests.metrics.declared import undeclared
from tests.runs.synthetic_runs import FakeEvaluation, bins, config, make_run

TINY = {
    "eval/accuracy", "eval/maj", "eval/entropy", "calibration/facts_ece", "calibration/unknowable_f1", "train/entropy",
    "train/entropy_right", "train/entropy_wrong", "regularizer/reverse_kl", "regularizer/coefficient",
    "regularizer/coefficient_confidence_0", "regularizer/coefficient_confidence_75", "rollout/reward",
}  # fmt: skip
TEXT = {
    "eval/accuracy", "calibration/question_ece", "eval/math500/accuracy", "calibration/math500/ece",
    "eval/selfaware/accuracy", "eval/selfaware/f1", "calibration/selfaware/ece", "train/entropy",
}  # fmt: skip
TITLES = ("chartTitle", "yAxisTitle")  # words, such as tokens/s


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [t for key, item in value.items() if key not in TITLES for t in (str(key), *strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def referred(tree: Any) -> set[str]:
    """Every metric or media key that the JSON names, wherever it stands: any string with a slash that is no sentence,
    and whatever is addressed in a summary."""
    found = set()
    for text in strings(tree):
        name = text.removeprefix("summary:").removeprefix("summary_metrics.")
        if " " not in name and ("/" in name or name != text):
            found.add(name)
    return found


def written(names: set[str], pictures: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    found = sections(names, pictures)
    return as_json(make_workspace(found, "p"), make_report(found, "p"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a dry run has opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("names", [TINY, TEXT, declared_names()], ids=["tiny", "text", "declared"])
def test_only_metrics_that_runs_log_are_referred_to(names: set[str]) -> None:
    assert undeclared(names) == []
    for part in written(names).values():
        assert referred(part) and referred(part) <= names


def test_a_metric_that_no_run_logs_would_be_noticed() -> None:
    """What the test above looks at sees a metric in each kind of panel and in the list of runs."""
    for part in written(TINY, {"calibration/reliability/facts"}).values():
        assert referred(part) - TINY == {"calibration/reliability/facts"}
        for name in (
            "eval/accuracy",
            "calibration/facts_ece",
            "regularizer/coefficient_confidence_75",
            "train/entropy",
        ):
            assert name in referred(part)
            assert name not in {n for p in written(TINY - {name}).values() for n in referred(p)}


def test_the_scatter_is_accuracy_against_the_tasks_own_ece() -> None:
    def scatters(names: set[str]) -> list[tuple[str, str]]:
        panels = [panel for section in written(names)["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
                  for panel in section["panels"]]  # fmt: skip
        return [(p["config"]["xAxis"], p["config"]["yAxis"]) for p in panels if p["viewType"] == "Scatter Plot"]

    assert scatters(TINY) == [("summary:calibration/facts_ece", "summary:eval/accuracy")]
    assert scatters(TEXT) == [
        ("summary:calibration/math500/ece", "summary:eval/math500/accuracy"),
        ("summary:calibration/selfaware/ece", "summary:eval/selfaware/accuracy"),
    ]
    assert scatters(TINY - {"calibration/facts_ece"}) == []


def test_seeds_make_bands_around_each_regularizers_mean() -> None:
    sent = public_config(config("care_grpo_tiny", 1, "srkl", alpha=0.8))
    assert sent["regularizer"]["name"] == "srkl"  # what the JSON's regularizer.value.name is the address of
    for part in ("workspace", "report"):
        text = json.dumps(written(TINY)[part])
        lines = [panel for panel in found(written(TINY)[part]) if panel["viewType"] == "Run History Line Plot"]
        assert len(lines) >= 5 and text
        for panel in lines:
            settings = panel["config"]
            assert (settings["groupBy"], settings["groupAgg"], settings["groupArea"]) == (
                "regularizer.value.name", "mean", "minmax",
            )  # fmt: skip
    (runs,) = written(TINY)["workspace"]["spec"]["section"]["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "regularizer.value.name"}]


def test_the_histogram_has_a_bar_for_each_bin_and_one_group_for_each_regularizer() -> None:
    for part in written(declared_names()).values():
        (bars,) = [
            panel for panel in found(part) if panel["config"].get("chartTitle") == "Histogram of the coefficient"
        ]
        assert bars["viewType"] == "Bar Chart" and bars["config"]["groupBy"] == "regularizer.value.name"
        assert bars["config"]["metrics"] == [f"regularizer/coefficient_bin_{name}" for name in COEFFICIENT_BINS]


def test_decisions_have_a_section_with_a_histogram_for_each_benchmark() -> None:
    bins = [f"calibration/openbookqa/decision_bin_{n}" for n in range(11)]
    own = {"eval/openbookqa/argmax_accuracy", "calibration/openbookqa/answer_prob_ece_count", *bins}
    swapped = {"eval/openbookqa/swap_flips", "eval/openbookqa/swap_probability"}
    by_title = {section.title: section for section in sections(TEXT | own | swapped)}
    panels = by_title["Decisions"].panels
    assert panels[-1] == Bars("OpenBookQA: histogram of p(decision)", tuple(bins)), "in the order of the bins"
    assert {name for panel in panels for name in references(panel)} == own | swapped
    assert "Decisions" not in {section.title for section in sections(TEXT)}
    for part in written(TEXT | own).values():
        assert own <= referred(part)


@pytest.mark.parametrize("name", ["decisions_tiny", "decisions_more_tiny", "calibration_4b"])
def test_a_method_is_what_the_seeds_of_an_arm_share(name: str) -> None:
    """What the JSON's method.value is the address of, for the rows of a sweep."""
    sent = {}
    for row in compose.fragment(f"sweeps/{name}")["rows"]:
        given = [plain(load([*row_words(row), f"seed={seed}", "tracking.wandb=off"])) for seed in (1, 2)]
        methods = {method(one) for one in given}
        assert len(methods) == 1
        sent[row] = methods.pop()
    assert len(set(sent.values())) == len(sent) > 2
    for row, words in sent.items():
        assert sorted(words.lower().split(" ")[1:]) == sorted(row_words(row)[1:]), row
        assert f"recipe={words.split(' ')[0]}" == row_words(row)[0]
    assert method({"recipe": "of_nobody", "decision": {"target": "gold"}}) == "of_nobody"


@pytest.mark.parametrize(("by", "others", "decisions"), [
    (BY, "regularizer.value.name", "method.value"), ("recipe", "recipe.value", "recipe.value"),
])  # fmt: skip
def test_arms_without_a_regularizer_are_told_apart_in_the_section_of_decisions(
    by: str, others: str, decisions: str
) -> None:
    made = sections(TEXT | {"decision/right", "calibration/openbookqa/decision_bin_0"})
    both = as_json(make_workspace(made, "p", by=by), make_report(made, "p", by=by))
    for part in both.values():
        groups: dict[bool, set[str]] = {True: set(), False: set()}
        for panel in found(part):
            names = {name.partition("/")[0] for name in panel["config"].get("metrics", [])}
            of_decisions = names == {"decision"} or "histogram of p(" in panel["config"].get("chartTitle", "")
            groups[of_decisions].add(panel["config"].get("groupBy", others))  # scatters and pictures have none
        assert groups == {True: {decisions}, False: {others}}
    grids = [block for block in both["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]
    assert {json.dumps(grid["metadata"]["runSets"][0]["grouping"]) for grid in grids} == {
        json.dumps([{"section": "config", "name": name}]) for name in (others, decisions)
    }


def found(tree: Any) -> list[dict[str, Any]]:
    if isinstance(tree, dict):
        own = [tree] if "viewType" in tree else []
        return own + [panel for item in tree.values() for panel in found(item)]
    return [panel for item in tree for panel in found(item)] if isinstance(tree, list) else []


def project(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "runs", config("care_grpo_tiny", 1, "srkl"), {})
    rows = [{"step": 0} | dict.fromkeys(TINY, 0.5), {"step": 1, "rollout/waves": 2.0}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 2, "eval/ma')
    write_evaluation(run / "evaluations", 0, FakeEvaluation({}, {"facts": bins(0.02)}))
    return tmp_path


def test_names_are_those_of_the_runs(tmp_path: Path) -> None:
    (run,) = (project(tmp_path) / "runs").iterdir()
    # rollout/waves was logged by an older version: no panel is made for what is not declared
    assert logged_names([run]) == (TINY, {"calibration/reliability/facts"})


def test_a_dry_run_writes_the_json_without_network_and_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_network: None
) -> None:
    monkeypatch.chdir(project(tmp_path))
    assert dashboard.main(["project=care", "entity=us", "dry_run=true"]) == 0
    out = capsys.readouterr().out
    assert "written: dashboard.json" in out and "those logged by 1 run;" in out
    both = json.loads(Path("dashboard.json").read_text())
    assert {name: (both[name]["project"], both[name]["displayName"]) for name in both} == {
        "workspace": ("care", "Regularizers compared"),
        "report": ({"name": "care", "entityName": "us"}, "Regularizers compared"),
    }
    assert both["workspace"]["entity"] == "us"
    for part in both.values():
        assert referred(part) <= TINY | {"calibration/reliability/facts"}


def test_without_a_key_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_network: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no-config"))
    assert dashboard.main(["project=care"]) == 1
    error = capsys.readouterr().err
    assert "there is no API key" in error and "WANDB_API_KEY" in error and "dry_run=true" in error
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize(
    ("words", "field", "hint"),
    [
        (["dry_run=true"], "project", "project=NAME"),
        (["project=p", "dryrun=true"], "dryrun", "dry_run"),
        (["project=p", "dry_run=1"], "dry_run", "true or false"),
        (["project=p", "by=tracking.wandb"], "by", BY),
        (["project=p", "runs=nowhere"], "runs", "nowhere"),
        (["p"], "p", "key=value"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    words: list[str], field: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert dashboard.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(field) and "is refused" in error.splitlines()[0] and hint in error
