"""report.html: whole, self-contained, the numbers in it those of the run directory."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from carerl.report.run_page import verdict, write_report
from carerl.runs.tables import write_rollouts
from tests.runs.synthetic_runs import BASE, config, fill_run, make_run

VOID = {"meta", "link", "img", "br", "hr", "input"}
FINAL = {**BASE, "eval/accuracy": 0.947, "calibration/facts_ece": 0.053, "calibration/unknowable_f1": 0.453}


class Page(HTMLParser):
    """Checks that tags nest; collects ids, references, resource loads and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "xlink:href") and value:
                (self.references if value.startswith("#") else self.loads).append(  # type: ignore[attr-defined]
                    value[1:] if value.startswith("#") else (tag, value)
                )
            if name in ("src", "srcset", "data", "action") and value:
                self.loads.append((tag, value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check_page(text: str) -> Page:
    """What holds for every page: well nested, nothing loaded from anywhere, light and dark, no id twice."""
    page = Page(text)
    assert page.loads == [] and page.tags["script"] == 0 and page.tags["link"] == 0
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert all(url.startswith("#") for url in re.findall(r"url\(\s*['\"]?([^)'\"]+)", text))
    assert "prefers-color-scheme: dark" in text
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    assert set(page.references) <= set(page.ids)
    assert "#0000" not in text  # every stand-in colour has become the page's
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", text)) <= set(re.findall(r"(--[a-z0-9]+):", text))
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = config("care_grpo_tiny", 100, "srkl", beta=3.0, alpha=0.8, estimator="full")
    run = make_run(tmp_path_factory.mktemp("runs"), settings, FINAL)
    fill_run(run)
    return run


def test_report_is_whole_and_self_contained(run: Path) -> None:
    text = write_report(run).read_text()
    page = check_page(text)
    words = " ".join(" ".join(page.text).split())
    assert "care_grpo_tiny · seed 100" in words
    assert "Accuracy rose from 0.315 to 0.947" in words
    assert "FACTS ECE 0.031 0.053 +0.022" in words
    assert "UNKNOWABLE F1 0.926 0.453 -0.473" in words
    assert "srkl, beta 3.0, alpha 0.8, estimator full" in words
    # what a perfect model has does not change; how was asked, and what the labels mean, in words
    assert "FACTS ECE, perfect model 0.026 0.026 +0.000" in words and "question ECE 0.064" in words
    assert "Evaluated at temperature 1, 16 samples per question, seed 12345." in words and "every 100" not in words
    assert "FACTS: facts with known true answer probabilities" in words and "UNKNOWABLE: made-up names" in words
    # the evaluation between start and end asked 4 questions, the others 12
    assert "Hollow: 4 of 12 questions." in words and "cannot be compared" not in words
    # reliability of facts and answer, base and final each; their ECEs as the bins were made
    assert words.count("ECE 0.030") == 1 and words.count("ECE 0.050") == 1 and words.count("ECE 0.028") == 2
    # nine curves (no supervised loss in this run), the time split, two reliability diagrams
    assert page.tags["svg"] == 12
    for title in (
        "Reward and rollout accuracy",
        "Evaluation accuracy",
        "Entropy",
        "Divergence to the reference",
    ):
        assert title in words
    assert "C 3 7 4 3 A 3 EOS" in words and "D 3 7 <9> & A 8 EOS" in words


def test_same_run_same_page(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_a_last_evaluation_on_fewer_questions_is_said_to_be_no_match(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()
    (copy / "evaluations" / "step_000200.json").unlink()
    words = " ".join(" ".join(check_page(write_report(copy).read_text()).text).split())
    assert "The last evaluation asked 4 questions, the first 12" in words


@pytest.mark.parametrize(
    "missing",
    [("summary.json",), ("summary.json", "evaluations", "rollouts"), ("metrics.jsonl",), ("config.yaml",)],
)
def test_an_unfinished_run_has_a_report_too(run: Path, tmp_path: Path, missing: tuple[str, ...]) -> None:
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    for name in missing:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    page = check_page(write_report(copy).read_text())
    words = " ".join(" ".join(page.text).split())
    if missing == ("summary.json",):  # base and final come from the evaluations then
        assert "not finished" in words and "Accuracy rose from 0.315 to 0.900" in words


def test_an_empty_run_has_a_report_that_says_so(tmp_path: Path) -> None:
    page = check_page(write_report(tmp_path).read_text())
    assert "logged nothing yet" in " ".join(page.text)


def test_what_a_model_writes_is_text(tmp_path: Path) -> None:
    run = make_run(tmp_path, config("care", 1), FINAL)
    hostile = "<script>alert(1)</script><img src=x onerror=y>{{ 7*7 }}" + "x" * 5000
    write_rollouts(
        run / "rollouts" / "step_000001.parquet",
        [
            {
                "step": 1,
                "example_id": "q",
                "response": hostile,
                "prompt": hostile,
                "outcome": "wrong",
                "correct": False,
            }
        ],
    )
    text = write_report(run).read_text()
    page = check_page(text)
    assert page.tags["img"] == 0
    assert "<script>alert(1)</script>" in "".join(page.text) and "{{ 7*7 }}" in "".join(page.text)
    assert text.count("x" * 700) == 0  # cut


def test_secrets_of_the_config_are_not_in_the_report(tmp_path: Path) -> None:
    settings: dict[str, Any] = config("care", 1)
    settings["model"]["path"] = "s3://me:hunter2@store/model"
    settings["task"]["api_key"] = "sk-abcdef"
    text = write_report(make_run(tmp_path, settings, FINAL)).read_text()
    assert "hunter2" not in text and "sk-abcdef" not in text and "store/model" in text


def test_verdict_says_which_changes_are_for_the_worse() -> None:
    assert verdict(BASE, FINAL) == (
        "Accuracy rose from 0.315 to 0.947; FACTS ECE rose from 0.031 to 0.053 (worse); "
        "UNKNOWABLE F1 fell from 0.926 to 0.453 (worse); entropy is 100 % of the base's."
    )
    better = {"calibration/facts_ece": 0.01}
    assert verdict({"calibration/facts_ece": 0.03}, better) == "FACTS ECE fell from 0.030 to 0.010."
    assert verdict({}, FINAL) == ""
