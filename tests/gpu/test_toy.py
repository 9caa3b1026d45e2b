"""The commands of ``python -m tests.gpu``: their toy run, and what the runner does with sections that go wrong.

Not covered: what the sections find on a GPU, and those that need vLLM (``TOY=1 python -m tests.gpu engine sync``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.__main__ import REFUSED, SECTIONS, main
from tests.gpu.report import Report, Row, read
from tests.gpu.runner import Section, run

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import os, pathlib, subprocess, sys, tempfile, time

def good(report):
    report.tell("plain", 1)
    report.at_most("small enough", 1.0, 2.0)

def misses(report):
    report.at_most("too large", 3.0, 2.0)
    report.at_least("not a number", float("nan"), 0.0)
    report.equal("another", [1], [2])

def crashes(report):
    report.tell("before", 1)
    raise RuntimeError("on purpose")

def dies(report):
    os.abort()

def dies_writing(report):
    report.tell("lines so far", 1)
    report.tell("lines so far", len(pathlib.Path(os.environ["ROWS"]).read_text().splitlines()))
    report.tell("folder", tempfile.mkdtemp())
    with open(os.environ["ROWS"], "a") as file:
        file.write('{"section": "half of a li')
    os.abort()

def hangs(report):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    report.tell("child", child.pid)
    time.sleep(600)
"""


@pytest.fixture
def section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Section]:
    """Makes sections of the functions above."""
    (tmp_path / "made_sections.py").write_text(CODE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.chdir(ROOT)

    def make(name: str, seconds: float = 30.0, **settings: Any) -> Section:
        return Section(f"made_sections:{name}", seconds, **settings)

    return make


def of(rows: list[Row], section: str) -> dict[str, Row]:
    return {row.name: row for row in rows if row.section == section}


def test_a_section_that_crashes_is_a_row_and_costs_no_other(
    section: Callable[..., Section], capfd: pytest.CaptureFixture[str]
) -> None:
    rows = run({name: section(name) for name in ("crashes", "dies", "good")}, 60, None)
    assert of(rows, "crashes")["before"].value == 1, "what it had found is kept"
    assert (of(rows, "crashes")["exit code"].value, of(rows, "crashes")["exit code"].ok) == (1, False)
    assert of(rows, "dies")["exit code"].value == -6
    assert of(rows, "good")["small enough"].ok is True and len(of(rows, "good")) == 2
    assert "RuntimeError: on purpose" in capfd.readouterr().out


def test_the_exit_code_counts_missed_bars(section: Callable[..., Section]) -> None:
    table = {name: section(name) for name in ("good", "misses", "crashes")}
    assert main(["good"], False, None, table) == 0
    assert main(["misses"], False, None, table) == 3, "NaN holds no bar"
    assert main([], False, None, table) == 4


def test_a_deadline_ends_a_section_that_hangs_and_what_it_has_started(section: Callable[..., Section]) -> None:
    rows = run({"hangs": section("hangs", 2.0), "good": section("good")}, 60, None)
    found = of(rows, "hangs")
    assert found["deadline"].ok is False and "2 s" in found["deadline"].value
    state = Path(f"/proc/{found['child'].value}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z", "its child is gone"
    assert of(rows, "good")["small enough"].ok is True


def test_a_section_for_which_no_time_is_left_is_named(section: Callable[..., Section]) -> None:
    rows = run({"good": section("good"), "misses": section("misses", 50.0)}, 26, None)
    assert "small enough" in of(rows, "good")
    late = run({"good": section("good")}, 10, None)
    assert [(row.name, row.value, row.ok) for row in late] == [("not run", "no time left", None)]


def test_rows_are_appended_as_lines_of_json(section: Callable[..., Section], tmp_path: Path) -> None:
    table = {"good": section("good"), "misses": section("misses")}
    main(["good"], False, str(tmp_path), table)
    main(["misses"], False, str(tmp_path), table)
    lines = [json.loads(line) for line in (tmp_path / "gpu_check.jsonl").read_text().splitlines()]
    assert [line["section"] for line in lines] == ["good"] * 2 + ["misses"] * 3
    assert lines[1] == {"section": "good", "name": "small enough", "value": 1.0, "bar": "<= 2", "ok": True}


def test_a_section_that_is_killed_leaves_the_rows_that_it_had_and_no_file(
    section: Callable[..., Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWS", str(tmp_path / "gpu_check.jsonl"))
    rows = run({name: section(name) for name in ("good", "dies_writing", "misses")}, 60, tmp_path)
    assert read(tmp_path / "gpu_check.jsonl") == rows
    dead = [row for row in rows if row.section == "dies_writing"]
    assert [row.name for row in dead] == ["lines so far", "lines so far", "folder", "exit code"]
    assert dead[1].value == 3, "those of the section before it, and its own, while it runs"
    assert not Path(dead[2].value).exists()
    assert len(of(rows, "misses")) == 3


def test_a_word_means_all_sections_that_begin_with_it_if_none_is_called_so(section: Callable[..., Section]) -> None:
    table = {
        "part_one": section("misses", toy=True),
        "part_two": section("crashes"),
        "parting": section("good"),
        "good": section("good"),
        "good_too": section("misses"),
    }
    assert main(["part"], False, None, table) == 4
    assert main(["good"], False, None, table) == 0
    assert main(["par"], False, None, table) == REFUSED
    assert main(["part"], True, None, table) == REFUSED


def test_a_line_that_was_not_written_to_its_end_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    Report("s", file).tell("whole", 1)
    with file.open("a") as more:
        more.write('{"section": "s", "na')
    assert [row.name for row in read(file)] == ["whole"]
    assert read(tmp_path / "none") == []


def test_words_that_are_no_sections_are_refused_before_any_is_run(
    section: Callable[..., Section], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"good": section("good", toy=True), "misses": section("misses")}
    assert main(["good", "haed"], False, str(tmp_path), table) == REFUSED
    assert "no such section: haed; there are good, misses" in capsys.readouterr().err
    assert main(["good", "misses"], True, str(tmp_path), table) == REFUSED
    assert "misses: has no toy run" in capsys.readouterr().err
    assert not (tmp_path / "gpu_check.jsonl").exists()


def test_a_toy_run_without_words_is_of_what_needs_neither_a_gpu_nor_vllm(section: Callable[..., Section]) -> None:
    table = {
        "good": section("good", toy=True),
        "misses": section("misses"),
        "crashes": section("crashes", toy=True, vllm=True),
    }
    assert main([], True, None, table) == 0
    assert main([], False, None, table) == 4


def test_a_learner_that_fails_is_a_row_and_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.gpu import learner

    def one(name: str, report: Report, settings: dict[str, Any]) -> None:
        if name == "first":
            raise RuntimeError("out of memory")
        report.tell(f"{name}: seconds", 1)

    monkeypatch.setattr(learner, "TOY", True)
    monkeypatch.setattr(learner, "LEARNERS", {"first": None, "second": None})
    monkeypatch.setattr(learner, "one", one)
    monkeypatch.setattr(learner, "with_reference", lambda name, report, estimator: None)
    learner.run(Report("learner", tmp_path / "rows"))
    first, second = read(tmp_path / "rows")
    assert (first.name, first.ok) == ("first: failed with", False) and "out of memory" in first.value
    assert second.name == "second: seconds"


@pytest.mark.slow
def test_the_toy_run_holds_its_bars(tmp_path: Path) -> None:
    """Head, learners and packed attention, by the command, each as it runs on a GPU but for shapes and kernels."""
    from carerl.backends.learners import LEARNERS

    environment = {**os.environ, "TOY": "1", "OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read(tmp_path / "gpu_check.jsonl")
    toy = {name for name, section in SECTIONS.items() if section.toy and not section.vllm}
    assert {row.section for row in rows} == toy == {"head", "learner", "packed"}
    held = {name: [row.name for row in rows if row.section == name and row.ok] for name in toy}
    assert len(held["head"]) >= 9 and len(held["packed"]) == 2
    whole = [name for name in held["learner"] if name.endswith("tensors that are not given out, or not the model's")]
    assert all(any(name.startswith(backend) for name in whole) for backend in LEARNERS)
    assert sum("mean reverse KL at equal weights" in name for name in held["learner"]) == 2
