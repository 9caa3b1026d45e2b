"""Names that a stranger chooses, of suites, runs, recipes, metrics and samples, in every page, picture and table: text,
whatever they hold. Responses are test_html's. A page of a run and a comparison hold several of them."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from carerl.report import reliability_pictures, write_evaluation_report, write_report
from carerl.report.evaluation_table import print_evaluation
from carerl.report.pictures.reliability import reliability, reliability_figure
from carerl.report.pictures.svg import Picture, page_id
from carerl.runs.directory import RunDirectory
from carerl.runs.tables import read_evaluations
from tests.report.test_run_page import Page
from tests.runs.synthetic_decoding import add_decoded, tree, vote
from tests.runs.synthetic_evaluations import make_text_evaluation
from tests.runs.synthetic_runs import BASE, bins, config, fill_run, make_run

FINAL = {**BASE, "eval/accuracy": 0.9}
NAMES = (
    'q"><img src=x onerror=alert(1)>',
    "q'><script>alert(1)</script>",
    r"back\slash \1 \g<0> \x",
    "braces {0} {} {{7*7}} {% raw %}",
    "dollars $x^2$ $\\badcommand{$ 5$",
    "[/red] [link=https://x]y[/link] :smile:",
    "a&b;<c>\u202egnp\u2069",
    ")url(#x)#000001 id=\"y\" href=\"#z\" var(--ink) font-family: evil",
    "..",
    "../../etc/passwd",
    "line\nfeed\ttab",
    "\x1b[2J\x9b\x00\x07",
    "--><!-- ]]>",
    "half \ud83d",
    "=HYPERLINK(0)",
    "@SUM(1+1)",
    "x" * 300,
)  # fmt: skip


class Attributes(HTMLParser):
    """Every tag and attribute that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(name for name, _ in attrs)]


def check_harmless(text: str) -> None:
    """Tags nest, nothing is loaded or run, no id twice and none missing: whatever the page says in words."""
    page = Page(text)
    assert page.loads == [] and page.tags["script"] == page.tags["img"] == 0
    assert not [name for name in Attributes(text).seen if name.startswith("on")]
    assert len(page.ids) == len(set(page.ids)) and set(page.references) <= set(page.ids)


def rename_suites(run: Path, names: Sequence[str]) -> None:
    for path in (run / "evaluations").glob("step_*.json"):
        record = json.loads(path.read_text())
        record["reliability"] = dict.fromkeys(names, next(iter(record["reliability"].values())))
        for name in names:
            record["metrics"] |= {f"eval/{name}/accuracy": 0.5, f"calibration/{name}/ece": 0.1, name: 0.25}
        path.write_text(json.dumps(record))


@pytest.mark.parametrize("names", [NAMES[start::5] for start in range(5)])
def test_a_runs_report(tmp_path: Path, names: Sequence[str]) -> None:
    settings = config("care", 1) | {"description": "\n".join(names)}
    run = make_run(tmp_path, settings, FINAL | {f"eval/{name}/accuracy": 0.5 for name in names})
    fill_run(run, steps=20)
    rename_suites(run, names)
    text = write_report(run).read_text()
    check_harmless(text)
    words = " ".join("".join(Words(text).found).split())
    for name in names:
        if name.isprintable() and "$" not in name:
            assert " ".join(name.split()) in words


class Words(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.found.append(data)


@pytest.mark.parametrize("name", [name for name in NAMES if "\ud83d" not in name])
def test_an_evaluations_page_and_table(tmp_path: Path, name: str) -> None:
    run = make_text_evaluation(tmp_path, "model", suites=(name, "validation"), count=6)
    decoded = {name: {name: [tree(name), vote([name, None], "b")], "cat": [tree("a", name), tree("b")]}}
    add_decoded(run, decoded, text=name, prompt=name)
    check_harmless(write_evaluation_report(run).read_text())
    shown = io.StringIO()
    print_evaluation(read_evaluations(run / "evaluations")[0], RunDirectory(run), shown)
    text = shown.getvalue()
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in text) and "\x9b" not in text
    if "[link" in name:
        assert "[/red] [link=https://x]" in text and ":smile:" in text, "text, and no markup"


FOR_FILES = [name for name in NAMES if "\0" not in name and "\ud83d" not in name]


@pytest.mark.parametrize("names", [FOR_FILES[start::5] for start in range(5)])
def test_a_comparison(tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from carerl import compare

    for number, recipe in enumerate((*names, "none")):
        for seed in (1, 2):
            settings = config("placeholder", seed, "none" if recipe == "none" else "srkl") | {"description": recipe}
            run = make_run(tmp_path / "runs", settings, FINAL, suffix=f"{number}{seed}")
            (run / "config.yaml").write_text(json.dumps(settings | {"recipe": recipe}))
    out = tmp_path / "out"
    assert compare.main([str(tmp_path / "runs"), f"out={out}"]) == 0
    check_harmless((out / "compare.html").read_text())
    assert not set("\x1b\x9b\x07\u202e") & set(capsys.readouterr().out)
    for path in out.rglob("*"):
        assert path.resolve().is_relative_to(out.resolve())
        if path.suffix == ".svg":
            ElementTree.parse(path)
    assert "<img" not in (out / "compare.md").read_text() and "<script" not in (out / "compare.md").read_text()
    rows = list(csv.DictReader(io.StringIO((out / "compare.csv").read_text())))
    assert {row["recipe"] for row in rows} >= {"none"}
    for file in out.glob("*.csv"):
        cells = [cell for line in csv.reader(io.StringIO(file.read_text())) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "@"))]


@pytest.mark.parametrize("name", [name for name in NAMES if "\ud83d" not in name])
def test_a_picture_is_an_element_and_a_file(tmp_path: Path, name: str) -> None:
    svg = reliability(name, {name: bins(0.1)})
    assert svg is not None
    ElementTree.fromstring(svg)
    figure = reliability_figure({name: bins(0.1)})
    assert figure is not None
    picture = Picture(f"reliability-{name}", name, figure)
    ElementTree.fromstring(picture.svg())
    assert (tmp_path / f"{picture.name}.svg").parent == tmp_path and len(picture.name) < 100
    evaluation = tmp_path / "step_000000.json"
    evaluation.write_text(json.dumps({"step": 0, "reliability": {name: bins(0.1)}}))
    assert all(pixels.startswith(b"\x89PNG") for pixels in reliability_pictures(evaluation).values())


def test_two_names_are_two_ids_and_a_plain_one_stays() -> None:
    ids = {page_id(name) for name in (*NAMES, "a b", "a-b", "a/b", "A b", "")}
    assert len(ids) == len(NAMES) + 5
    assert page_id("reliability-math500") == "reliability-math500"
    assert all(page_id(found) == found for found in ids), "an id is its own"
