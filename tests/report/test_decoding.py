"""Methods of inference in an evaluation's page and table: their figures, and the tree of a question.

Not covered: how figures are made (tests/runs/test_decoding)."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.inference.base import Branch
from carerl.report import write_evaluation_report
from carerl.report.decoding import (
    SHADES,
    STEP_LIMIT,
    method_lines,
    method_tables,
    shown_trees,
    terminal_tree,
    tree_of,
)
from carerl.report.evaluation_table import evaluation_rows, print_evaluation
from carerl.report.pictures.decoding import accuracy_over_tokens
from carerl.runs.decoded import Stored, read_decoded
from carerl.runs.directory import RunDirectory
from carerl.runs.tables import read_evaluations
from tests.report.test_run_page import check_page
from tests.runs.synthetic_decoding import add_decoded, tree, vote
from tests.runs.synthetic_evaluations import make_text_evaluation

FOUND = {
    "gsm8k": {
        "self_consistency": [vote(["7", "3", "7"], "a"), vote(["3", "3", "7"], "b"), vote(["7"] * 3, "c")],
        "cat": [tree("a"), tree("b", "3"), tree("c")],
    }
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_text_evaluation(tmp_path_factory.mktemp("decoded"), "model", suites=("gsm8k", "validation"), count=6)
    add_decoded(made, FOUND)
    return made


@pytest.fixture
def found(run: Path) -> list[Stored]:
    return read_decoded(run / "evaluations", 0)


def record_of(run: Path) -> dict[str, Any]:
    return read_evaluations(run / "evaluations")[0]


def test_the_table_has_a_line_for_each_method_in_their_order(run: Path) -> None:
    (table,) = method_tables(record_of(run))
    assert table.suite == "GSM8K" and [method for method, _ in table.lines] == ["self_consistency", "cat"]
    cells = {method: dict(zip(table.columns, row, strict=True)) for method, row in table.lines}
    assert cells["cat"]["accuracy"].startswith("0.667 [") and cells["cat"]["tokens"].startswith("16.0")
    assert cells["self_consistency"]["less SC, equal K"] == "–" and cells["cat"]["less SC, equal K"].startswith(
        "+0.000"
    )
    assert cells["cat"]["threshold"] == "0.250" and cells["self_consistency"]["threshold"] == "–"
    assert dict(table.turned)["pruned"] == ["0.000", "0.333"]


def test_page_and_terminal_show_the_same_figures(run: Path) -> None:
    page = check_page(write_evaluation_report(run).read_text())
    words = " ".join(" ".join(page.text).split())
    shown = io.StringIO()
    print_evaluation(record_of(run), RunDirectory(run), shown)
    (table,) = method_tables(record_of(run))
    for _, cells in table.lines:
        for cell in cells:
            assert cell in words and all(part in shown.getvalue() for part in cell.split(" [")), cell
    assert "methods of inference on GSM8K" in shown.getvalue()
    assert "token90" not in shown.getvalue() and "decode.show=ID" in shown.getvalue(), "a tree only for who asks"


@pytest.mark.parametrize(("count", "tables"), [(2, 1), (5, 1), (6, 2), (9, 2)])
def test_methods_beside_each_other_fit_120_columns(tmp_path: Path, count: int, tables: int) -> None:
    made = make_text_evaluation(tmp_path, "model", suites=("gsm8k", "validation"), count=6)
    questions = [vote(["7", "3", "7"], name, own=1000 * number + 900) for number, name in enumerate("abc")]
    names = ["self_consistency", *(f"deepconf_number{n}" for n in range(1, count))]
    add_decoded(made, {"gsm8k": dict.fromkeys(names, questions)})
    stream = io.StringIO()
    print_evaluation(record_of(made), RunDirectory(made), stream)
    text = stream.getvalue()
    block = text[text.index("methods of inference") : text.index("[low, high]")]
    lines = [line.strip() for line in block.splitlines()]
    assert max(map(len, block.splitlines())) <= 120 and "…" not in block
    assert sum(line.startswith("accuracy") for line in lines) == tables
    assert all(sum(name in line.split() for line in lines) == 1 for name in names)
    (table,) = method_tables(record_of(made))
    for label, cells in table.turned:
        places = [place for place, line in enumerate(lines) if line.startswith(f"{label} ")]
        values = [word for place in places for word in lines[place].removeprefix(label).split()]
        assert values == [cell.split(" [")[0] for cell in cells], label
        below = " ".join(lines[place + 1] for place in places)
        assert all(cell.partition(" ")[2] in below for cell in cells), "an interval stands below its figure"


def test_a_branch_stands_under_the_one_that_it_was_forked_from(found: list[Stored]) -> None:
    (shown,) = shown_trees(found)
    assert (shown.method, shown.example_id, shown.gold) == ("cat", "a", "7"), "the question that branches most"
    first, second = shown.roots
    (fork,) = first.children
    assert (first.number, second.number, fork.number) == (0, 1, 2) and not second.children and not fork.children
    assert [step.confidence for step in first.steps] == ["0.875", "0.750"]
    assert fork.after == 1 and [step.text for step in fork.steps] == ["token90 token91"], "what is its own alone"
    assert (first.end, second.end, fork.end) == (
        "7 · vote 0.81 · elected", "pruned", "cut off before an answer",
    )  # fmt: skip
    assert (first.right, second.pruned, fork.right) == (True, True, False)
    assert shown.result == "right with 1.00 of the votes' weight · 16 tokens in 3 branches"


def test_the_page_strikes_what_was_pruned_and_nests_what_was_forked(run: Path) -> None:
    text = write_evaluation_report(run).read_text()
    tree_text = text[text.index('<ol class="tree">') : text.index("</details>", text.index('<ol class="tree">'))]
    assert tree_text.count('class="branch pruned"') == 1 and tree_text.count('class="branch elected"') == 1
    inner = tree_text[tree_text.index('<ol class="tree">', 5) :]
    assert "token90 token91" in inner[: inner.index("</ol>")] and "token9</span>" not in inner[: inner.index("</ol>")]
    assert '<span class="step u5">token0 token1 token2 token3</span>' in tree_text, "the pruned one, the least sure"


def test_a_question_without_an_answer_and_a_long_step(tmp_path: Path) -> None:
    run = make_text_evaluation(tmp_path, "model", suites=("gsm8k", "validation"), count=4)
    add_decoded(run, {"gsm8k": {"greedy": [vote([None], "a", own=600)]}})
    (shown,) = shown_trees(read_decoded(run / "evaluations", 0))
    assert shown.result == "no answer · 600 tokens in 1 branches" and shown.roots[0].end == "no answer"
    first, last = shown.roots[0].steps
    assert first.text.startswith("token0 token1 ") and first.text.endswith(" token299") and " … " in first.text
    assert len(first.text) == STEP_LIMIT + 3 and last.text.startswith("token300")


def test_without_decoded_questions_nothing_is_said(tmp_path: Path) -> None:
    run = make_text_evaluation(tmp_path, "model", suites=("gsm8k", "validation"), count=4)
    assert "Methods of inference" not in write_evaluation_report(run).read_text()


def test_the_figures_of_methods_have_no_lines_among_those_of_a_world_without_suites() -> None:
    metrics = {"eval/accuracy": 0.5, "decode/q3/cat/accuracy": 0.25, "decode/q3/cat/questions": 3.0}
    _, lines = evaluation_rows({"metrics": metrics})
    assert [cells for _, cells in lines] == [["0.500"]]


@pytest.mark.parametrize(
    ("confidences", "shades"),
    [
        ((0.9, 0.4, 0.65, 0.6), [0, SHADES, 2, 3]),
        ((0.999, 0.974, 0.989, 0.979), [0, SHADES, 2, 4]),  # of 152,000 tokens all are near 1
        ((0.9, 0.9, 0.9, 0.9), [0, 0, 0, 0]),
        ((0.99992, 0.9996, 0.9999, 0.9999), [0, 0, 0, 0]),  # no one can tell them apart
        ((), [0, 0, 0, 0]),
    ],
)
def test_a_step_is_shaded_by_its_place_among_the_trees_confidences(
    found: list[Stored], confidences: tuple[float, ...], shades: list[int]
) -> None:
    one = next(one for one in found if one.method == "self_consistency")
    ids = tuple(range(8))
    halves = [confidences[:2], confidences[2:]]
    branches = tuple(Branch((k,), ids[:4], 4, steps=(2, 4), confidences=half) for k, half in enumerate(halves))
    odd = replace(one.answered, decoded=replace(one.answered.decoded, branches=branches, winner=-1))
    roots = tree_of(replace(one, answered=replace(odd, outcomes=odd.outcomes[:2]))).roots
    assert [step.unsure for node in roots for step in node.steps] == shades


def test_of_a_large_tree_page_and_terminal_show_the_same_part(found: list[Stored]) -> None:
    """64 responses of 60 steps each: some lines a person reads, and the words for the others."""
    one = next(one for one in found if one.method == "self_consistency")
    ends, ids = tuple(range(1, 61)), tuple(range(60))
    branches = tuple(Branch((k,), ids, 60, steps=ends, confidences=(0.5,) * 60) for k in range(64))
    decoded = replace(one.answered.decoded, branches=branches, winner=50)
    answered = replace(one.answered, decoded=decoded, outcomes=one.answered.outcomes[:1] * 64)
    texts = (tuple(f"step{k}." for k in range(60)),) * 64
    large = replace(one, answered=answered, step_texts=texts, prompt="x" * 10_000)
    shown, text = tree_of(large), terminal_tree(large)
    assert [node.number for node in shown.roots] == [*range(11), 50]
    assert shown.more == "… 52 more branches, 0 of them pruned" == text.splitlines()[-1]
    for node in shown.roots:
        assert [step.text for step in node.steps] == [
            *(f"step{k}." for k in range(8)), "… 48 more steps", *(f"step{k}." for k in range(56, 60)),
        ]  # fmt: skip
    assert text.count("… 48 more steps") == 12 and len(text.splitlines()) == 4 + 12 * 14 + 1
    assert text.count("x") < 2_000 > len(shown.prompt)


def test_the_picture_has_a_line_for_each_method_and_a_dot_at_its_whole_budget(found: list[Stored]) -> None:
    """Of self-consistency: one branch is right 2/3, 1/3, 1 of the time; all three: right, wrong, right."""
    lines = method_lines(found)["GSM8K"]
    assert lines["self_consistency"].tokens == [10, 20, 30] and lines["cat"].full == pytest.approx((16, 2 / 3))
    assert lines["self_consistency"].accuracy[::2] == pytest.approx([2 / 3, 2 / 3])
    picture = accuracy_over_tokens({"GSM8K": lines, "other": {"cat": lines["cat"]}})
    assert picture is not None
    first, second, *_ = picture.figure.axes
    curves = [line for line in first.get_lines() if len(line.get_xdata()) > 1]
    dots = [line for line in first.get_lines() if len(line.get_xdata()) == 1]
    assert [list(line.get_xdata()) for line in curves] == [[10, 20, 30], list(lines["cat"].tokens)]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [line.full for line in lines.values()]
    assert second.get_lines()[0].get_color() == curves[1].get_color(), "a method has one colour in all panels"
    assert accuracy_over_tokens({}) is None


def test_a_tree_for_a_terminal_has_question_and_gold_answer_and_steers_nothing(found: list[Stored]) -> None:
    one = next(one for one in found if one.method == "cat")
    texts = (("\x1b[2Jtoken0", "token4"), *one.step_texts[1:])
    text = terminal_tree(replace(one, prompt="Ask\x1b[2J", gold="7\x07", step_texts=texts))
    assert "\x1b" not in text and "\x07" not in text
    lines = text.splitlines()
    assert lines[0].startswith("GSM8K · a · cat · right with 1.00") and lines[1:3] == ["Ask␛[2J", "gold answer: 7␇"]
    assert lines[3].startswith("7 elected with 1.00 of the weight") and text.count("token90 token91") == 1
